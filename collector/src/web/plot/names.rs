//! Names beside the marks of a plot, as far as they have room: inside the plot, and none over another.
//!
//! How large a name is drawn is known to the browser alone, so it gets the room that it takes on a narrow screen in a wide
//! font, and is held on the side of its mark. A name that is cut stands whole in its mark's title.

use super::{BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH};
use maud::{Markup, html};

/// Marks that have their name beside them.
const NAMED: usize = 6;
/// The height of letters on a narrow screen, as page.css has it.
const FONT: f64 = 17.0;
/// The most width of a name.
const WIDEST: f64 = 15.0 * FONT;
/// Half of a line's height.
const HALF_LINE: f64 = 0.5 * FONT;

/// What is taken already: left, top, right and bottom of each.
pub(super) struct Names {
    taken: Vec<[f64; 4]>,
    named: usize,
}

/// Where a name goes: the point where it is held, and the side of it that is there.
struct Spot {
    held: f64,
    y: f64,
    anchor: &'static str,
    /// Where it begins and ends at most.
    ends: [f64; 2],
}

impl Spot {
    fn at(anchor: &'static str, held: f64, y: f64, width: f64) -> Spot {
        let before = match anchor {
            "start" => 0.0,
            "end" => width,
            _ => width / 2.0,
        };
        Spot {
            held,
            y,
            anchor,
            ends: [held - before, held - before + width],
        }
    }

    fn place(&self) -> [f64; 4] {
        [self.ends[0], self.y - HALF_LINE, self.ends[1], self.y + HALF_LINE]
    }

    fn is_inside(&self) -> bool {
        let [left, top, right, bottom] = self.place();
        left >= LEFT && right <= WIDTH - RIGHT && top >= TOP && bottom <= HEIGHT - BOTTOM
    }
}

impl Names {
    /// None yet, and none over these marks: middle and size of each.
    pub(super) fn beside(marks: impl Iterator<Item = (f64, f64, f64)>) -> Names {
        Names {
            taken: marks
                .map(|(x, y, size)| [x - size, y - size, x + size, y + size])
                .collect(),
            named: 0,
        }
    }

    /// No name goes here: left, top, right and bottom.
    pub(super) fn keep_free(&mut self, place: [f64; 4]) {
        self.taken.push(place);
    }

    /// A name beside a mark, above or below it: where nothing is yet.
    pub(super) fn place(&mut self, name: &str, x: f64, y: f64, size: f64) -> Option<Markup> {
        let (name, width) = cut(name);
        let spot = self.spot(width, x, y, size)?;
        Some(html! {
            text.name x=(format!("{:.1}", spot.held)) y=(format!("{:.1}", spot.y + 4.5)) text-anchor=(spot.anchor) { (name) }
        })
    }

    fn spot(&mut self, width: f64, x: f64, y: f64, size: f64) -> Option<Spot> {
        let gap = size + 6.0;
        let (left, right) = (Spot::at("end", x - gap, y, width), Spot::at("start", x + gap, y, width));
        // Towards the middle, where there is more room.
        let beside = if x > (LEFT + WIDTH - RIGHT) / 2.0 {
            [left, right]
        } else {
            [right, left]
        };
        let (first, last) = (LEFT, WIDTH - RIGHT);
        let (anchor, held) = match x {
            x if x - width / 2.0 < first => ("start", first),
            x if x + width / 2.0 > last => ("end", last),
            x => ("middle", x),
        };
        let stacked = [-gap - HALF_LINE, gap + HALF_LINE].map(|below| Spot::at(anchor, held, y + below, width));
        let free = beside.into_iter().chain(stacked).find(|spot| {
            let place = spot.place();
            let is_apart = |other: &[f64; 4]| {
                place[2] < other[0] || other[2] < place[0] || place[3] < other[1] || other[3] < place[1]
            };
            spot.is_inside() && self.taken.iter().all(is_apart)
        });
        let spot = free.filter(|_| self.named < NAMED)?;
        self.named += 1;
        self.taken.push(spot.place());
        Some(spot)
    }
}

/// As much of a name as is no wider than [`WIDEST`], and its width.
fn cut(name: &str) -> (String, f64) {
    let ellipsis = width_of('…');
    let mut width = 0.0;
    // Where it ends if an ellipsis has to follow.
    let (mut end, mut end_width) = (0, 0.0);
    for (at, letter) in name.char_indices() {
        if width + ellipsis <= WIDEST {
            (end, end_width) = (at, width);
        }
        width += width_of(letter);
        if width > WIDEST {
            return (format!("{}…", name[..end].trim_end()), end_width + ellipsis);
        }
    }
    (name.to_owned(), width)
}

/// About the width of a letter of a bold, wide font.
fn width_of(letter: char) -> f64 {
    FONT * match letter {
        'i' | 'j' | 'l' | 'I' | ' ' | '.' | ',' | ':' | ';' | '!' | '|' | '\'' => 0.36,
        'f' | 'r' | 't' | '-' | '(' | ')' => 0.48,
        'm' | 'w' | 'M' | 'W' | '…' | '@' | '%' => 1.08,
        'A'..='Z' => 0.82,
        letter if letter.is_ascii() => 0.69,
        // Ideographs and pictures are as wide as they are high.
        '\u{1100}'.. => 1.05,
        _ => 0.82,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_by_its_width_not_by_its_letters() {
        assert_eq!(cut("short").0, "short");
        let (narrow, narrow_width) = cut(&"il ".repeat(40));
        let (wide, wide_width) = cut(&"W".repeat(40));
        assert!(narrow.ends_with('…') && wide.ends_with('…'));
        assert!(narrow.chars().count() > 2 * wide.chars().count());
        assert!(narrow_width <= WIDEST && wide_width <= WIDEST);
        let (ideographs, width) = cut(&"発票抽出".repeat(9));
        assert!(ideographs.chars().count() < 15 && width <= WIDEST);
        // One that just fits is whole.
        let fits = "m".repeat((WIDEST / width_of('m')) as usize);
        assert_eq!(cut(&fits).0, fits);
        assert_eq!(cut("").1, 0.0);
    }

    #[test]
    fn names_stay_inside_the_plot_and_apart_from_each_other() {
        for step in 0..=100 {
            let x = LEFT + 12.0 + f64::from(step) / 100.0 * (WIDTH - RIGHT - LEFT - 24.0);
            for size in [4.0, 11.0, 22.0] {
                for y in [TOP, TOP + 30.0, HEIGHT / 2.0, HEIGHT - BOTTOM] {
                    let mut names = Names::beside([(x, y, size)].into_iter());
                    let first = names.spot(WIDEST, x, y, size);
                    let second = names.spot(WIDEST, x, y, size);
                    for spot in first.iter().chain(&second) {
                        assert!(spot.is_inside(), "{x} {y}: {:?}", spot.place());
                    }
                    if let (Some(first), Some(second)) = (first, second) {
                        let (one, other) = (first.place(), second.place());
                        let is_apart = one[2] < other[0] || other[2] < one[0] || one[3] < other[1] || other[3] < one[1];
                        assert!(is_apart, "{x} {y}: {one:?} {other:?}");
                    }
                    // In the middle of the plot's height there is room for two.
                    assert!(y != HEIGHT / 2.0 || names.named == 2, "{x}");
                }
            }
        }
    }

    #[test]
    fn a_name_beyond_the_middle_is_held_at_its_end() {
        let spot = |x: f64| {
            let mut names = Names::beside(std::iter::empty());
            names.spot(WIDEST, x, HEIGHT / 2.0, 5.0).unwrap()
        };
        let (first, last) = (LEFT + 12.0, WIDTH - RIGHT - 12.0);
        let (left, right) = (spot(first), spot(last));
        assert_eq!((left.anchor, left.ends[0]), ("start", first + 11.0));
        assert_eq!((right.anchor, right.ends[1]), ("end", last - 11.0));
        // In the middle there is no room for a long one beside its mark.
        assert_eq!(spot((LEFT + WIDTH - RIGHT) / 2.0).anchor, "middle");
    }
}
