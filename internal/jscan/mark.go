package jscan

// Mark returns a mark of the next value, for Since.
func (s *Scanner) Mark() int {
	s.space()
	return s.pos
}

// Since returns the text that was read since a mark. It aliases the input. After a whole value it is the text of that value.
func (s *Scanner) Since(mark int) []byte { return s.data[mark:s.pos:s.pos] }
