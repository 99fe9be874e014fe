package jscan

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"unicode/utf8"
)

// replacement is U+FFFD, which replaces a byte that is not UTF-8, as in encoding/json.
const replacement = "\uFFFD"

const hex = "0123456789abcdef"

// escapeExtra is the number of bytes that escaping adds to an ASCII byte, 0 if it is not escaped. shortEscape is the letter
// of its short escape, 0 if JSON has none.
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

// long is the size from which on a string is first searched for the end of its plain bytes, four words at a time. That takes
// half the time for a text without escapes. A shorter string gains less than the search takes where it is in vain.
const long = 256

// AppendString appends s as a JSON string with its quotes. It escapes only what JSON requires: '"', '\' and control
// characters, in the short form where there is one. A byte that is not UTF-8 becomes U+FFFD.
func AppendString(dst []byte, s string) []byte { return appendText(dst, s) }

// AppendVerbatim appends s as a JSON string when nothing in it has to be escaped: all of it is UTF-8, and StringSize returns
// VerbatimSize of it.
func AppendVerbatim(dst []byte, s string) []byte {
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// VerbatimSize is the size of s as a JSON string when nothing in it has to be escaped.
func VerbatimSize(s string) int { return len(s) + len(`""`) }

// AppendStringBytes is like AppendString for the bytes of a string.
func AppendStringBytes(dst, s []byte) []byte { return appendText(dst, s) }

// appendText appends a string: ASCII by appendASCII, and other characters unchanged.
func appendText[T text](dst []byte, s T) []byte {
	dst = append(dst, '"')
	i := 0
	if len(s) >= long {
		i = plainBlocks(s, 0)
		dst = append(dst, s[:i]...)
	}
	for {
		if dst, i = appendASCII(dst, s, i); i == len(s) {
			return append(dst, '"')
		}
		end, valid := wideEnd(s, i)
		dst = append(dst, s[i:end]...)
		if i = end; !valid {
			dst = append(dst, replacement...)
			i++
		}
	}
}

// appendASCII appends s from i on, up to the first byte that is not ASCII. It returns the index of that byte, or len(s).
//
// Many strings contain JSON, which has a quote every few bytes. So a word of eight bytes is written as it is before it is
// searched for bytes to escape, and an escape overwrites the bytes after it.
func appendASCII[T text](dst []byte, s T, i int) ([]byte, int) {
	for i+8 <= len(s) {
		dst = reserve(dst, len(s)-i)
		n, w := len(dst), load(s, i)
		ahead := dst[n : n+Ahead]
		binary.LittleEndian.PutUint64(ahead, w)
		mask := notPlain(w)
		if mask == 0 {
			dst, i = dst[:n+8], i+8
			continue
		}
		k := firstByte(mask)
		i += k
		if s[i] >= utf8.RuneSelf {
			return dst[:n+k], i
		}
		dst = dst[:n+k+putEscape(ahead[k:], s[i])]
		i++
	}
	for ; i < len(s) && s[i] < utf8.RuneSelf; i++ {
		if b := s[i]; plain[b] {
			dst = append(dst, b)
		} else {
			dst = reserve(dst, 0)
			n := len(dst)
			dst = dst[:n+putEscape(dst[n:n+Ahead], b)]
		}
	}
	return dst, i
}

// Ahead is how many bytes are written beyond the end of the result at most: a word, or the plain bytes of a word and an
// escape. A buffer whose capacity exceeds the size of the result by Ahead does not grow.
const Ahead = 7 + len(`\u0000`)

// reserve makes room for Ahead bytes. If dst has to grow for that, it grows by more bytes in addition.
func reserve(dst []byte, more int) []byte {
	if cap(dst)-len(dst) < Ahead {
		return slices.Grow(dst, Ahead+more)
	}
	return dst
}

// putEscape writes the escape of an ASCII byte and returns its length.
func putEscape(dst []byte, b byte) int {
	dst[0] = '\\'
	if letter := shortEscape[b]; letter != 0 {
		dst[1] = letter
		return 2
	}
	copy(dst[1:], `u00`)
	dst[4], dst[5] = hex[b>>4], hex[b&0xf]
	return 6
}

// StringSize returns len(AppendString(nil, s)) without writing the string. ok is false, and size 0, if s is not valid UTF-8
// or contains NUL. The server could not store such a string unchanged: JSON replaces invalid UTF-8, and Postgres drops NUL.
func StringSize(s string) (size int, ok bool) {
	size = len(s) + len(`""`)
	i := 0
	if len(s) >= long {
		i = plainBlocks(s, 0)
	}
	for i < len(s) {
		if i+8 <= len(s) {
			w := load(s, i)
			mask := notPlain(w)
			if mask == 0 {
				i += 8
				continue
			}
			if rare(w) == 0 {
				size += bits.OnesCount64(escaped(w)) // each adds one byte
				i += 8
				continue
			}
			i += firstByte(mask)
		}
		b := s[i]
		if b >= utf8.RuneSelf {
			if i, ok = wideEnd(s, i); !ok {
				return 0, false
			}
			continue
		}
		if b == 0 {
			return 0, false
		}
		size += int(escapeExtra[b])
		i++
	}
	return size, true
}
