package jscan

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"unicode/utf8"
)

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
	for i := 0; ; {
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

// appendASCII appends from i on, up to the first byte that is not ASCII. Escapes come in crowds, as data is often JSON
// itself, where a quote stands every few bytes. So a word is written whole, before it is known what is in it; an escape
// overwrites what came too early.
func appendASCII[T text](dst []byte, s T, i int) ([]byte, int) {
	for i+8 <= len(s) {
		dst = roomy(dst, len(s)-i)
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
			dst = roomy(dst, 0)
			n := len(dst)
			dst = dst[:n+putEscape(dst[n:n+Ahead], b)]
		}
	}
	return dst, i
}

// Ahead is how much may be written behind the end: a word, or the plain bytes of one and an escape. A buffer that has so
// much more than what is appended takes does not grow.
const Ahead = 7 + len(`\u0000`)

// roomy makes room to write ahead, and, where that is not there, for so many bytes more.
func roomy(dst []byte, more int) []byte {
	if cap(dst)-len(dst) < Ahead {
		return slices.Grow(dst, Ahead+more)
	}
	return dst
}

// putEscape writes the escape of an ASCII byte and returns how long it is.
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

// StringSize returns len(AppendString(nil, s)) without writing it. ok is false, and size 0, when s is not valid UTF-8 or
// holds NUL: such a string does not survive the way into the database, JSON would replace the first and Postgres drops the
// second.
func StringSize(s string) (size int, ok bool) {
	size = len(s) + len(`""`)
	for i := 0; i < len(s); {
		if i+8 <= len(s) {
			w := load(s, i)
			mask := notPlain(w)
			if mask == 0 {
				i += 8
				continue
			}
			if rare(w) == 0 {
				size += bits.OnesCount64(escaped(w)) // each by one byte
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
