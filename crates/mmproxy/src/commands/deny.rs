//! `mmproxy deny`: which clients a running mmproxy denies.

use crate::cli::{DenyAddArgs, DenyCommand, DenyListArgs, DenyRemoveArgs, Term};
use crate::control::{Client, DeniedRow, DenyReply, DenyRequest, Reply, Request};
use crate::escape::escape;
use crate::exit::{Exit, Failure};
use crate::table::Table;
use crate::units::time;

use super::control::{json, print, unexpected};

/// Asks, and shows what came of it.
pub(crate) fn run(command: &DenyCommand) -> Result<Exit, Failure> {
    match command {
        DenyCommand::Add(args) => add(args),
        DenyCommand::List(args) => list(args),
        DenyCommand::Remove(args) => remove(args),
    }
}

fn add(args: &DenyAddArgs) -> Result<Exit, Failure> {
    let DenyAddArgs { control, network, term, reason, close } = args.clone();
    // What is less than a second is not for ever.
    let for_s =
        term.and_then(|Term(term)| term).map(|term| term.as_secs() + u64::from(term.subsec_nanos() > 0));
    let request = Request::Deny(DenyRequest::Add { network, for_s, reason, close });
    let Reply::Deny(DenyReply::Added { closed }) = Client::connect(&control.control)?.ask(&request)? else {
        return Err(unexpected());
    };
    let term = for_s.map_or_else(|| "for ever".to_owned(), |seconds| format!("for {}", time(seconds)));
    print(&format!("[+] {network} is denied {term}."));
    for name in closed {
        print(&format!("[+] Session {name} is closed."));
    }
    Ok(Exit::Ok)
}

fn list(args: &DenyListArgs) -> Result<Exit, Failure> {
    let request = Request::Deny(DenyRequest::List);
    let Reply::Deny(DenyReply::Listed(rows)) = Client::connect(&args.control.control)?.ask(&request)? else {
        return Err(unexpected());
    };
    if args.json {
        for row in &rows {
            print(&json(row)?);
        }
    } else if rows.is_empty() {
        print("[+] Nobody is denied.");
    } else {
        print(&listed(&rows).to_string());
    }
    Ok(Exit::Ok)
}

fn remove(args: &DenyRemoveArgs) -> Result<Exit, Failure> {
    let network = args.network;
    let request = Request::Deny(DenyRequest::Remove { network });
    let reply = Client::connect(&args.control.control)?.ask(&request)?;
    let Reply::Deny(DenyReply::Removed { was_denied, still }) = reply else { return Err(unexpected()) };
    if was_denied {
        print(&format!("[+] {network} is denied no longer."));
    } else {
        print(&format!("[+] {network} was not denied."));
    }
    for row in still {
        print(&format!("[!] {}, which contains it, is denied still.", row.network));
    }
    Ok(Exit::Ok)
}

fn listed(rows: &[DeniedRow]) -> Table {
    let mut table = Table::new(&["NETWORK", "FOR", "UNTIL", "REASON"], &[1]);
    for row in rows {
        table.row([
            row.network.to_string(),
            row.remaining_s.map_or_else(|| "ever".to_owned(), time),
            row.until.clone().unwrap_or_else(|| "-".to_owned()),
            row.reason.as_ref().map_or_else(|| "-".to_owned(), |reason| escape(reason.as_bytes())),
        ]);
    }
    table
}
