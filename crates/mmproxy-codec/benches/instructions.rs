//! Reads one header many times, for a program that counts instructions.
//!
//! `instructions --list` prints the names; `instructions ROW CRATE TIMES` does the work. `run.sh` takes the
//! difference of two runs, in which the rest of the program cancels out.

use mmproxy_codec_benches::{call, rows};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [row, of, times] => {
            let row = rows().into_iter().find(|candidate| candidate.name == row).expect("a row of the table");
            let (_, reader) = *row.readers.iter().find(|(name, _)| *name == of).expect("a crate of the row");
            let times: u32 = times.parse().expect("a number");
            for _ in 0..times {
                call(reader, &row.wire);
            }
        }
        _ => {
            for row in rows() {
                for (name, _) in row.readers {
                    println!("{} {name}", row.name);
                }
            }
        }
    }
}
