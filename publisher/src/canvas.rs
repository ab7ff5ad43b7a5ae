//! A terminal that is drawn anew in place. It takes the terminal's other screen and gives it back when it is dropped, so that what was there
//! before is there again.

use std::io;

use rustix::termios::tcgetwinsize;
use show::board::Size;

use crate::screen::Screen;

/// The other screen, no cursor, and lines that end at the edge (xterm's private modes, which screen, tmux and the consoles of Linux know).
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// What a terminal without a size has.
const USUAL: Size = Size { columns: 80, rows: 24 };

/// The other screen of a terminal.
pub(crate) struct Canvas<'a> {
    screen: &'a Screen,
}

impl<'a> Canvas<'a> {
    /// Takes it; nothing where nobody looks, or where lines are all that there is.
    pub(crate) fn open(screen: &'a Screen) -> Option<Self> {
        let is_plain = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if is_plain || !screen.is_live() {
            return None;
        }
        screen.steer(ENTER);
        Some(Self { screen })
    }

    /// Shows these lines and nothing else.
    pub(crate) fn draw(&self, lines: &[String]) {
        // At once, where the terminal can (mode 2026): others flicker a little.
        let lines: Vec<_> = lines.iter().map(|line| self.screen.printable(line)).collect();
        self.screen.steer(&format!("\x1b[?2026h\x1b[H{}\x1b[K\x1b[J\x1b[?2026l", lines.join("\x1b[K\r\n")));
    }
}

/// How much there is to draw on now.
pub(crate) fn size() -> Size {
    let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or(USUAL, |size| Size { columns: size.ws_col.into(), rows: size.ws_row.into() })
}

impl Drop for Canvas<'_> {
    fn drop(&mut self) {
        self.screen.steer(LEAVE);
    }
}
