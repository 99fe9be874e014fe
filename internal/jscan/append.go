package jscan

import "unicode/utf8"

// replacement is U+FFFD as bytes: what stands for a byte that is not UTF-8, as in encoding/json.
const replacement = "\uFFFD"

const hex = "0123456789abcdef"

// escapeSize is the length that a control byte, '"' or '\' takes once escaped; shortEscape its letter, or 0 when JSON has
// no short form for it.
var escapeSize, shortEscape = func() (sizes, letters [128]byte) {
	for b := range 0x20 {
		sizes[b] = uint8(len(`\u0000`))
	}
	for _, e := range []struct{ b, letter byte }{
		{'"', '"'}, {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'}, {'\n', 'n'}, {'\r', 'r'}, {'\t', 't'},
	} {
		sizes[e.b], letters[e.b] = 2, e.letter
	}
	return sizes, letters
}()

// AppendString appends s as a JSON string with its quotes. It escapes only what JSON requires: '"', '\' and control
// characters, in the short form where there is one. A byte that is not UTF-8 becomes U+FFFD.
func AppendString(dst []byte, s string) []byte { return appendText(dst, s) }

// AppendStringBytes is AppendString for a string held in bytes.
func AppendStringBytes(dst, s []byte) []byte { return appendText(dst, s) }

func appendText[T text](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0 // of what stands for itself and is not appended yet
	for i := plainEnd(s, 0); i < len(s); i = plainEnd(s, i) {
		if b := s[i]; b < utf8.RuneSelf {
			dst = appendEscape(append(dst, s[start:i]...), b)
			i++
			start = i
			continue
		}
		size, valid := runeAt(s, i)
		if !valid {
			dst = append(append(dst, s[start:i]...), replacement...)
			start = i + size
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

func appendEscape(dst []byte, b byte) []byte {
	if letter := shortEscape[b]; letter != 0 {
		return append(dst, '\\', letter)
	}
	return append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&0xf])
}

// runeAt tells how many bytes the character at i takes, and whether they are UTF-8. Slicing to one character first keeps
// the conversion on the stack.
func runeAt[T text](s T, i int) (size int, valid bool) {
	r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
	return size, r != utf8.RuneError || size != 1
}

// StringSize returns len(AppendString(nil, s)) without writing it. ok is false, and size 0, when s is not valid UTF-8 or
// holds NUL: such a string does not survive the way into the database, JSON would replace the first and Postgres drops the
// second.
func StringSize(s string) (size int, ok bool) {
	size = len(s) + len(`""`)
	for i := plainEnd(s, 0); i < len(s); i = plainEnd(s, i) {
		switch b := s[i]; {
		case b == 0:
			return 0, false
		case b < utf8.RuneSelf:
			size += int(escapeSize[b]) - 1
			i++
		default:
			n, valid := runeAt(s, i)
			if !valid {
				return 0, false
			}
			i += n
		}
	}
	return size, true
}
