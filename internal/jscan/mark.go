package jscan

import "unsafe"

// ResetString is like Reset, and does not copy the text. The values alias the text, so that the caller must not change them.
func (s *Scanner) ResetString(text string) { s.Reset(unsafe.Slice(unsafe.StringData(text), len(text))) }

// Mark returns a mark of the next value, for Since.
func (s *Scanner) Mark() int {
	s.space()
	return s.pos
}

// Since returns the text that was read since a mark. It aliases the input. After a whole value it is the text of that value.
func (s *Scanner) Since(mark int) []byte { return s.data[mark:s.pos:s.pos] }

// Rest returns the text from the next value on, or nil if no value is next. It aliases the input.
func (s *Scanner) Rest() []byte {
	if s.Kind() == Invalid {
		return nil
	}
	return s.data[s.pos:]
}

// Consume consumes the first n bytes of Rest, which the caller knows to be a whole value.
func (s *Scanner) Consume(n int) {
	s.pos += n
	s.consumed()
}

// Close leaves the innermost container and reports true if written is all that is left of it, with its closing bracket:
// `,"b":1}`. The caller knows that to be valid there. Otherwise it changes nothing.
func (s *Scanner) Close(written string) bool {
	end := s.pos + len(written)
	if s.err != nil || s.place != atNext || end > len(s.data) || string(s.data[s.pos:end]) != written {
		return false
	}
	s.pos = end
	s.pop()
	return true
}

// PlainEnd returns the first index from i on whose byte is a quote, a backslash, a control byte or not ASCII, or len(text).
func PlainEnd(text []byte, i int) int { return plainEnd(text, i) }
