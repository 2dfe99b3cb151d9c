//! The terminal: taken for as long as a [`Screen`] lives, and given back however that ends.

use std::io::{self, BufWriter, Stdout, Write};
use std::panic;

use crossterm::cursor::Show;
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::Terminal;
use ratatui_crossterm::CrosstermBackend;

use super::app::App;
use super::draw::{Paint, draw};

/// The terminal in raw mode, showing its other screen.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    _restore: Restore,
}

/// Gives the terminal back when it is dropped.
struct Restore;

impl Screen {
    /// Takes the terminal. From now on a panic, of whatever thread, gives it back before its
    /// message is printed.
    ///
    /// # Errors
    /// There is no terminal, or it cannot be written to.
    pub fn open() -> io::Result<Self> {
        enable_raw_mode()?;
        let restore = Restore;
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            give_back();
            tell(panic);
        }));
        execute!(io::stdout(), EnterAlternateScreen)?;
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(io::stdout())))?;
        Ok(Self {
            terminal,
            _restore: restore,
        })
    }

    /// Draws what has changed since the last time.
    pub(super) fn draw(&mut self, app: &App, paint: Paint) -> io::Result<()> {
        let render = |frame: &mut ratatui::Frame<'_>| draw(frame.buffer_mut(), app, paint);
        self.terminal.draw(render).map(|_| ())
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // Where the terminal has gone there is nothing left to give back to.
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = io::stdout().flush();
    let _ = disable_raw_mode();
}
