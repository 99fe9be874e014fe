package jscan

import (
	"encoding/binary"
	"math"
	"unicode/utf16"
	"unicode/utf8"
)

// String consumes a string and returns it unescaped. The result aliases the text if nothing had to change, and otherwise a
// buffer that the next call overwrites. Lone surrogates and bytes that are not UTF-8 become U+FFFD.
func (s *Scanner) String() []byte {
	if !s.nextIs('"') && !s.begin(String) {
		return nil
	}
	value := s.unquote()
	s.consumed()
	return value
}

// Copied reports whether value, the result of the latest String, is in the buffer that the next call overwrites, and not in
// the text.
func (s *Scanner) Copied(value []byte) bool {
	return len(value) > 0 && len(s.scratch) > 0 && &value[0] == &s.scratch[0]
}

// StringOrNull is like String, and returns no bytes for null, as encoding/json does.
func (s *Scanner) StringOrNull() []byte {
	if !s.nextIs('"') && s.Null() {
		return nil
	}
	return s.String()
}

// unquote reads the quoted string that begins here and moves past it.
func (s *Scanner) unquote() []byte {
	start := s.pos + 1
	i := plainEnd(s.data, start)
	if i < len(s.data) && s.data[i] == '"' {
		s.pos = i + 1
		return s.data[start:i:i]
	}
	return s.unquoteWide(start, i)
}

// unquoteWide continues unquote at i, the index of the first byte that is not plain ASCII.
func (s *Scanner) unquoteWide(start, i int) []byte {
	for ; i < len(s.data); i = plainEnd(s.data, i) {
		switch b := s.data[i]; {
		case b == '"':
			s.pos = i + 1
			return s.data[start:i:i]
		case b >= utf8.RuneSelf:
			end, valid := wideEnd(s.data, i)
			if !valid {
				return s.rewrite(start, end)
			}
			i = end
		case b == '\\':
			return s.rewrite(start, i)
		default:
			s.pos = i
			s.fail("control character in a string")
			return nil
		}
	}
	s.pos = len(s.data)
	s.fail("the text ends inside a string")
	return nil
}

// rewrite continues unquote at i, the index of the first escape or invalid byte, and copies the string into scratch.
func (s *Scanner) rewrite(start, i int) []byte {
	out := append(s.scratch[:0], s.data[start:i]...)
	for i < len(s.data) {
		switch b := s.data[i]; {
		case b == '"':
			s.pos, s.scratch = i+1, out
			return out
		case b == '\\':
			if b := s.simpleEscape(i); b != 0 {
				out, i = append(out, b), i+2
				continue
			}
			r, next, ok := s.escape(i)
			if !ok {
				return nil
			}
			out, i = utf8.AppendRune(out, r), next
		case b < 0x20:
			s.pos = i
			s.fail("control character in a string")
			return nil
		case b >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(s.data[i:])
			out, i = utf8.AppendRune(out, r), i+size
		default:
			out, i = appendPlain(out, s.data, i)
		}
	}
	s.pos = len(s.data)
	s.fail("the text ends inside a string")
	return nil
}

// appendPlain appends s from i on, up to the first byte that is not plain. It writes whole words, as appendASCII does.
func appendPlain(dst, s []byte, i int) ([]byte, int) {
	for i+8 <= len(s) {
		dst = reserve(dst, 0) // s is the whole text, and this string may be a small part of it
		n, w := len(dst), load(s, i)
		binary.LittleEndian.PutUint64(dst[n:n+8], w)
		mask := notPlain(w)
		if mask != 0 {
			k := firstByte(mask)
			return dst[:n+k], i + k
		}
		dst, i = dst[:n+8], i+8
	}
	for ; i < len(s) && plain[s[i]]; i++ {
		dst = append(dst, s[i])
	}
	return dst, i
}

// unescaped maps the letter after a backslash to the byte that it escapes. It is 0 for 'u' and for invalid escapes.
var unescaped = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// simpleEscape returns the byte that the two bytes at i escape, or 0 if they are not a short escape.
func (s *Scanner) simpleEscape(i int) byte {
	if i+1 < len(s.data) {
		return unescaped[s.data[i+1]]
	}
	return 0
}

// escape decodes the \u escape whose backslash is at i. next is the index after it.
func (s *Scanner) escape(i int) (r rune, next int, ok bool) {
	r = s.unit(i)
	switch {
	case r < 0:
		s.pos = i
		s.fail("invalid escape in a string")
		return 0, 0, false
	case !utf16.IsSurrogate(r):
		return r, i + 6, true
	}
	// Two surrogates that form a pair are one character. Otherwise the second escape is decoded by itself.
	if pair := utf16.DecodeRune(r, s.unit(i+6)); pair != utf8.RuneError {
		return pair, i + 12, true
	}
	return utf8.RuneError, i + 6, true
}

// unit returns the UTF-16 code unit of the \uXXXX at i, or -1 if there is none.
func (s *Scanner) unit(i int) rune {
	if i+6 > len(s.data) || s.data[i] != '\\' || s.data[i+1] != 'u' {
		return -1
	}
	var r rune
	for _, b := range s.data[i+2 : i+6] {
		digit := unhex(b)
		if digit < 0 {
			return -1
		}
		r = r<<4 | digit
	}
	return r
}

func unhex(b byte) rune {
	switch {
	case '0' <= b && b <= '9':
		return rune(b - '0')
	case 'a' <= b && b <= 'f':
		return rune(b-'a') + 10
	case 'A' <= b && b <= 'F':
		return rune(b-'A') + 10
	}
	return -1
}

// skipQuoted moves past the quoted string that begins here. It does not check for UTF-8, because other bytes are accepted.
func (s *Scanner) skipQuoted() {
	for i := inertEnd(s.data, s.pos+1); i < len(s.data); i = inertEnd(s.data, i) {
		switch s.data[i] {
		case '"':
			s.pos = i + 1
			return
		case '\\':
			if s.simpleEscape(i) != 0 {
				i += 2
				continue
			}
			_, next, ok := s.escape(i)
			if !ok {
				return
			}
			i = next
		default:
			s.pos = i
			s.fail("control character in a string")
			return
		}
	}
	s.pos = len(s.data)
	s.fail("the text ends inside a string")
}

// Int consumes a number without fraction and exponent that fits an int64, as encoding/json requires for an int64.
func (s *Scanner) Int() int64 {
	if value, ok := s.Digits(); ok {
		return value
	}
	if !s.begin(Number) {
		return 0
	}
	start := s.pos
	text, integer := s.number()
	if s.err != nil {
		return 0
	}
	value, fits := parseInt(text)
	if !integer || !fits {
		s.pos = start
		s.fail("expected an integer of 64 bits")
		return 0
	}
	return value
}

// IntOrNull is like Int, and returns 0 for null, as encoding/json does.
func (s *Scanner) IntOrNull() int64 {
	if value, ok := s.Digits(); ok {
		return value
	}
	if s.Null() {
		return 0
	}
	return s.Int()
}

// Digits consumes a number of at most 18 digits, which always fits an int64, if it is next without white space. It consumes
// nothing else, and ok is then false. It takes a third of the time of Int.
func (s *Scanner) Digits() (value int64, ok bool) {
	if s.place != atValue || s.err != nil {
		return 0, false
	}
	first := s.pos
	for end := first; end < len(s.data); end++ {
		b := s.data[end]
		if digit := b - '0'; digit <= 9 {
			value = 10*value + int64(digit)
			continue
		}
		closed := b == ',' || b == '}' || b == ']'
		if !closed || end == first || end > first+18 || s.data[first] == '0' && end > first+1 {
			break
		}
		s.pos = end
		s.consumed()
		return value, true
	}
	return 0, false
}

// parseInt reads digits after an optional minus. It adds up a negative value, because an int64 has one more of those.
func parseInt(text []byte) (value int64, fits bool) {
	digits := text
	if text[0] == '-' {
		digits = text[1:]
	}
	for _, b := range digits {
		digit := int64(b - '0')
		if value < (math.MinInt64+digit)/10 {
			return 0, false
		}
		value = value*10 - digit
	}
	if text[0] == '-' {
		return value, true
	}
	return -value, value != math.MinInt64
}

// number consumes a number. integer reports that it has neither fraction nor exponent.
func (s *Scanner) number() (text []byte, integer bool) {
	i := s.pos
	if s.data[i] == '-' {
		i++
	}
	whole := digitsFrom(s.data, i)
	if whole > i+1 && s.data[i] == '0' {
		whole = i + 1 // a leading zero ends the number, and a digit after it is refused as a missing comma
	}
	end, ok := whole, whole > i
	if ok && end < len(s.data) && s.data[end] == '.' {
		fraction := digitsFrom(s.data, end+1)
		end, ok = fraction, fraction > end+1
	}
	if ok && end < len(s.data) && s.data[end]|0x20 == 'e' {
		exponent := end + 1
		if exponent < len(s.data) && (s.data[exponent] == '+' || s.data[exponent] == '-') {
			exponent++
		}
		end = digitsFrom(s.data, exponent)
		ok = end > exponent
	}
	if !ok {
		s.pos = end
		s.fail("expected a digit, found " + s.found())
		return nil, false
	}
	text = s.data[s.pos:end]
	s.pos = end
	s.consumed()
	return text, end == whole
}
