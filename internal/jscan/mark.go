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

// Repeats consumes the next value and reports true if its text is value, which is the text of an object or an array that was
// read before at the same depth. Otherwise it consumes nothing. Many messages have objects in common, and a comparison takes a
// tenth of the time of a Skip.
func (s *Scanner) Repeats(value string) bool {
	if len(value) == 0 || s.err != nil || s.place != atValue {
		return false
	}
	end := s.pos + len(value)
	if end > len(s.data) || string(s.data[s.pos:end]) != value {
		return false
	}
	s.pos = end
	s.consumed()
	return true
}
