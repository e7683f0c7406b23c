//! QR codes: for a terminal, dark on light whatever its colors are, and as an image.

use qrcode::{Color, EcLevel, QrCode};

use crate::error::Error;

/// A text as a QR code.
pub(crate) struct Picture {
    modules: Vec<Color>,
    width: usize,
}

impl Picture {
    /// Encodes `text`, which takes least room where it holds capitals and digits only.
    pub(crate) fn of(text: &str) -> Result<Self, Error> {
        let code = QrCode::with_error_correction_level(text, EcLevel::L);
        let code = code.map_err(|error| Error::Drawing(error.to_string()))?;
        Ok(Self { width: code.width(), modules: code.into_colors() })
    }

    /// Columns that [`Picture::lines`] takes.
    pub(crate) fn columns(&self) -> usize {
        self.width + 2 * QUIET
    }

    /// The code for a terminal, two rows of modules in a line of text. Both colors are out of the part of the palette that
    /// no theme changes, since a reader needs dark modules on light ground; NO_COLOR is about decoration.
    pub(crate) fn lines(&self) -> String {
        let mut lines = String::new();
        for top in (0..self.columns()).step_by(2) {
            for column in 0..self.columns() {
                let (upper, lower) = (self.is_dark(column, top), self.is_dark(column, top + 1));
                let color = |is_dark| if is_dark { BLACK } else { WHITE };
                lines.push_str(&format!("\x1b[38;5;{};48;5;{}m▀", color(upper), color(lower)));
            }
            lines.push_str("\x1b[0m\n");
        }
        lines
    }

    /// The code as an image in PNG.
    pub(crate) fn png(&self) -> Result<Vec<u8>, Error> {
        let side = self.columns() * SCALE;
        let mut rows = Vec::new();
        for y in 0..side {
            let is_light = |x: usize| !self.is_dark(x / SCALE, y / SCALE);
            for start in (0..side).step_by(8) {
                let bits = (start..start + 8).map(|x| u8::from(x < side && is_light(x)));
                rows.push(bits.fold(0, |byte, bit| byte << 1 | bit));
            }
        }
        let failed = |error: png::EncodingError| Error::Drawing(error.to_string());
        let side = u32::try_from(side).map_err(|error| Error::Drawing(error.to_string()))?;
        let mut image = Vec::new();
        let mut encoder = png::Encoder::new(&mut image, side, side);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&rows).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(image)
    }

    /// Whether a module is dark. What surrounds the code is light.
    fn is_dark(&self, column: usize, row: usize) -> bool {
        let inside = |place: usize| place.checked_sub(QUIET).filter(|place| *place < self.width);
        match (inside(column), inside(row)) {
            (Some(column), Some(row)) => self.modules[row * self.width + column] == Color::Dark,
            _ => false,
        }
    }
}

/// Light modules around the code, as ISO/IEC 18004 wants them.
const QUIET: usize = 4;
/// Pixels of an image for each module, on each side.
const SCALE: usize = 8;
/// Black in the color cube of 256 colors.
const BLACK: u8 = 16;
/// White in the color cube of 256 colors.
const WHITE: u8 = 231;

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "SOCKSEAL-INVITE-1:AEBAGBAFAYDQQCIKBMGA2DQPCAIREEYUCULBOGAZDINRYHI6D4QCCIRDEQSSMJZIFEVCWLBN";

    #[test]
    fn each_module_has_its_place_and_light_surrounds_the_code() {
        let picture = Picture::of(LINE).unwrap();
        let lines: Vec<String> = picture.lines().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), picture.columns().div_ceil(2));
        for line in &lines {
            assert_eq!(line.matches('▀').count(), picture.columns());
            assert!(line.ends_with("\x1b[0m"));
        }
        let white = format!("38;5;{WHITE};48;5;{WHITE}m");
        assert_eq!(lines[0].matches(&white).count(), picture.columns());
        // The finder pattern of seven dark modules in a row.
        assert!((QUIET..QUIET + 7).all(|column| picture.is_dark(column, QUIET)));
        assert!(!picture.is_dark(QUIET + 7, QUIET) && !picture.is_dark(QUIET - 1, QUIET));
    }

    #[test]
    fn the_image_shows_the_same_modules() {
        let picture = Picture::of(LINE).unwrap();
        let image = picture.png().unwrap();
        let decoder = png::Decoder::new(std::io::Cursor::new(image));
        let mut reader = decoder.read_info().unwrap();
        let mut rows = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rows).unwrap();
        assert_eq!(usize::try_from(info.width).unwrap(), picture.columns() * SCALE);
        for row in 0..picture.columns() {
            for column in 0..picture.columns() {
                let (x, y) = (column * SCALE + 3, row * SCALE + 3);
                let bit = rows[y * info.line_size + x / 8] >> (7 - x % 8) & 1;
                assert_eq!(bit == 0, picture.is_dark(column, row), "{column}, {row}");
            }
        }
    }
}
