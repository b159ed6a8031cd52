//! Keys, as the terminal tells them.

use std::io;
use std::thread;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use super::model::{Key, Sort};

/// What comes from the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Key(Key),
    Resized,
}

/// Listens in a thread of its own: reading a terminal blocks.
pub(super) fn listen() -> mpsc::Receiver<io::Result<Input>> {
    let (sender, inputs) = mpsc::channel(64);
    thread::spawn(move || {
        loop {
            let input = match event::read() {
                Ok(Event::Resize(..)) => Ok(Input::Resized),
                Ok(Event::Key(pressed)) => match key(pressed) {
                    Some(key) => Ok(Input::Key(key)),
                    None => continue,
                },
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            let last = input.is_err();
            if sender.blocking_send(input).is_err() || last {
                return;
            }
        }
    });
    inputs
}

fn key(pressed: KeyEvent) -> Option<Key> {
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    if pressed.modifiers.contains(KeyModifiers::CONTROL) {
        // In raw mode it is no signal.
        return (pressed.code == KeyCode::Char('c')).then_some(Key::Quit);
    }
    let meaning = MEANINGS.iter().find(|(code, _)| *code == pressed.code);
    meaning.map(|(_, key)| *key)
}

const MEANINGS: [(KeyCode, Key); 15] = [
    (KeyCode::Char('q'), Key::Quit),
    (KeyCode::Esc, Key::Quit),
    (KeyCode::Char('a'), Key::SortBy(Sort::Age)),
    (KeyCode::Char('b'), Key::SortBy(Sort::Bytes)),
    (KeyCode::Char('s'), Key::SortBy(Sort::Speed)),
    (KeyCode::Char('r'), Key::SortBy(Sort::Rtt)),
    (KeyCode::Char('i'), Key::Invert),
    (KeyCode::Left, Key::Left),
    (KeyCode::Right, Key::Right),
    (KeyCode::Up, Key::Up),
    (KeyCode::Down, Key::Down),
    (KeyCode::PageUp, Key::PageUp),
    (KeyCode::PageDown, Key::PageDown),
    (KeyCode::Home, Key::Home),
    (KeyCode::End, Key::End),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_c_ends_as_q_does_and_c_alone_means_nothing() {
        for (code, modifiers, meaning) in [
            (KeyCode::Char('q'), KeyModifiers::NONE, Some(Key::Quit)),
            (KeyCode::Char('c'), KeyModifiers::CONTROL, Some(Key::Quit)),
            (KeyCode::Char('c'), KeyModifiers::NONE, None),
            (KeyCode::Char('q'), KeyModifiers::CONTROL, None),
            (KeyCode::Left, KeyModifiers::NONE, Some(Key::Left)),
        ] {
            assert_eq!(key(KeyEvent::new(code, modifiers)), meaning, "{code:?} {modifiers:?}");
        }
    }
}
