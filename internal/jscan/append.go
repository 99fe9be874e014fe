package jscan

import "unicode/utf8"

// replacement is U+FFFD as bytes: what stands for a byte that is not UTF-8, as in encoding/json.
const replacement = "\uFFFD"

const hex = "0123456789abcdef"

// escapeExtra is by how much an ASCII byte grows when it is escaped, 0 for one that is not; shortEscape is the letter of
// its escape, 0 when JSON has no short form for it.
var escapeExtra, shortEscape = func() (extra, letters [utf8.RuneSelf]byte) {
	for b := range 0x20 {
		extra[b] = uint8(len(`\u0000`)) - 1
	}
	for _, e := range []struct{ b, letter byte }{
		{'"', '"'}, {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'}, {'\n', 'n'}, {'\r', 'r'}, {'\t', 't'},
	} {
		extra[e.b], letters[e.b] = 1, e.letter
	}
	return extra, letters
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
		if s[i] < utf8.RuneSelf {
			dst, i = appendCrowd(append(dst, s[start:i]...), s, i)
			start = i
			continue
		}
		end, valid := wideEnd(s, i)
		if i = end; !valid {
			dst = append(append(dst, s[start:i]...), replacement...)
			i++
			start = i
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// crowd is how many plain bytes in a row end a stretch that is taken byte by byte. Escapes come in crowds, as data is
// often JSON itself, where a quote stands every few bytes: finding the next one a word at a time and copying what lies
// between costs twice as much there.
const crowd = 8

// appendCrowd appends the ASCII from i on, byte by byte, until crowd bytes in a row needed no escape.
func appendCrowd[T text](dst []byte, s T, i int) ([]byte, int) {
	for end := min(i+crowd, len(s)); i < end && s[i] < utf8.RuneSelf; i++ {
		b := s[i]
		if plain[b] {
			dst = append(dst, b)
			continue
		}
		dst = appendEscape(dst, b)
		end = min(i+1+crowd, len(s))
	}
	return dst, i
}

func appendEscape(dst []byte, b byte) []byte {
	if letter := shortEscape[b]; letter != 0 {
		return append(dst, '\\', letter)
	}
	return append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&0xf])
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
			for end := min(i+crowd, len(s)); i < end && s[i] != 0 && s[i] < utf8.RuneSelf; i++ {
				size += int(escapeExtra[s[i]])
			}
		default:
			end, valid := wideEnd(s, i)
			if !valid {
				return 0, false
			}
			i = end
		}
	}
	return size, true
}
