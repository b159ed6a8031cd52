//! `mmproxy top`: a running mmproxy on the terminal, looked at again and again.
//!
//! What is seen ([`model`]) and how it is drawn ([`view`]) know neither terminal nor socket.

mod input;
mod look;
mod model;
mod view;

use std::io::{self, IsTerminal};

use ratatui::DefaultTerminal;
use tokio::sync::mpsc;

use self::input::Input;
use self::look::{Look, Looker};
use self::model::{Model, Wanted};
use crate::cli::TopArgs;
use crate::exit::{Exit, Failure};
use crate::runtime;
use crate::signals::Signals;

/// Shows until `q`, or a signal that ends programs.
pub(crate) fn run(args: TopArgs) -> Result<Exit, Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::new(Exit::Usage, "standard output is no terminal")
            .hint("`mmproxy status` and `mmproxy sessions` print the same once, with --json for programs"));
    }
    // What is wrong with the first look is told as by every other command.
    let mut looker = Looker::connect(args)?;
    let first = looker.look()?;
    runtime::block_on(async {
        let signals = Signals::listen().map_err(failed)?;
        let mut screen = Screen::take().map_err(failed)?;
        let (looks, inputs) = (look::repeat(looker), input::listen());
        watch(&mut screen.0, Model::new(first), looks, inputs, signals).await.map_err(failed)
    })??;
    Ok(Exit::Ok)
}

async fn watch(
    terminal: &mut DefaultTerminal,
    mut model: Model,
    mut looks: mpsc::Receiver<Result<Look, Failure>>,
    mut inputs: mpsc::Receiver<io::Result<Input>>,
    mut signals: Signals,
) -> io::Result<()> {
    loop {
        terminal.draw(|frame| view::draw(frame, &model))?;
        tokio::select! {
            Some(look) = looks.recv() => model.note(look),
            Some(input) = inputs.recv() => match input? {
                Input::Key(key) if model.press(key) == Wanted::End => return Ok(()),
                // The next drawing has the new size.
                Input::Key(_) | Input::Resized => {}
            },
            _ = signals.next() => return Ok(()),
            // Both threads have gone, which only a bug can do to them.
            else => return Ok(()),
        }
    }
}

/// The terminal, as this needs it; given back as it was when dropped, and when something panics.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing back.
        self.0.show_cursor().ok();
        ratatui::try_restore().ok();
    }
}

fn failed(error: io::Error) -> Failure {
    Failure::new(Exit::Unavailable, Unusable(error))
}

#[derive(Debug, thiserror::Error)]
#[error("the terminal cannot be used")]
struct Unusable(#[source] io::Error);
