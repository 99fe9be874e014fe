package jscan

import "fmt"

// maxDepth is encoding/json's own limit: the Scanner has to refuse what json.Valid refuses.
const maxDepth = 10_000

// Error is what a Scanner failed with. Offset counts bytes from the beginning of the text.
type Error struct {
	Offset int
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("json: %s at offset %d", e.Reason, e.Offset) }

// place says what the grammar allows next.
type place uint8

const (
	atValue place = iota // a value: at the beginning, after Key, after Elem
	atFirst              // the first member or element of a container, or its end
	atNext               // a comma or the container's end
	atEnd                // only white space: the value of the text was read
)

// Scanner pulls values out of a JSON text, strictly in the order in which they stand; the example shows the loops.
//
// Each value has to be consumed, by its own method or by Skip. The first error sticks: from then on every method returns
// its zero, every loop over Key or Elem ends, and Err and Done return the error; so only the end needs a check.
//
// Nothing is copied: what Key, String and Raw return aliases the text, or, for a string with escapes or bytes that are not
// UTF-8, a scratch that the next call overwrites. The zero Scanner is ready for Reset. Reuse keeps the scratch. It is for
// one goroutine at a time.
type Scanner struct {
	data  []byte
	pos   int
	place place

	// The open containers, one bit each, set for an object: the innermost 64 levels at most in level, full words of 64
	// in outer. Bits keep 10,000 levels within 1,250 bytes.
	depth int
	level uint64
	outer []uint64

	scratch []byte
	err     error
}

// Reset makes the Scanner read data from its beginning. The caller must not change data while values of it are in use.
func (s *Scanner) Reset(data []byte) {
	*s = Scanner{data: data, outer: s.outer[:0], scratch: s.scratch[:0]}
}

// Err returns the first error, a *Error, or nil.
func (s *Scanner) Err() error { return s.err }

// Done returns nil when the text held one value and it was consumed; white space may follow it.
func (s *Scanner) Done() error {
	switch {
	case s.err != nil:
	case s.place != atEnd:
		s.fail("the value was not read to its end")
	default:
		if s.space(); s.pos < len(s.data) {
			s.fail("text after the value")
		}
	}
	return s.err
}

// Kind tells what the next value is, without consuming it: End when the text is over, Invalid when no value can stand here.
func (s *Scanner) Kind() Kind {
	if s.err != nil {
		return Invalid
	}
	// Servers write no white space: the value is right here.
	if s.place == atValue && s.pos < len(s.data) && s.data[s.pos] > ' ' {
		return kindOf[s.data[s.pos]]
	}
	s.space()
	switch {
	case s.pos == len(s.data):
		return End
	case s.place != atValue:
		return Invalid
	}
	return kindOf[s.data[s.pos]]
}

// stands reports whether a value that begins with b is next, without white space before it. What it denies, begin looks at.
func (s *Scanner) stands(b byte) bool {
	return s.place == atValue && s.err == nil && s.pos < len(s.data) && s.data[s.pos] == b
}

// Object enters the object that is next; Key walks it and leaves it. It reports false, and fails, when the next value is
// no object or nests deeper than 10,000.
func (s *Scanner) Object() bool { return s.begin(Object) && s.push(1) }

// Array enters the array that is next; Elem walks it and leaves it. It reports false, and fails, when the next value is no
// array or nests deeper than 10,000.
func (s *Scanner) Array() bool { return s.begin(Array) && s.push(0) }

// Key reads the next member's key, unescaped, and stands at its value. ok is false at the object's end, which is left, and
// after an error.
func (s *Scanner) Key() (key []byte, ok bool) {
	if !s.more(1) || !s.quote() {
		return nil, false
	}
	key = s.unquote()
	if !s.colon() {
		return nil, false
	}
	return key, true
}

// Member stands at the value of the object's next member and reports true, when that member begins with written, its key in
// quotes and the colon: `"id":`. Otherwise it changes nothing, and Key finds out what is there. A reader that knows in which
// order a peer writes asks for that first: it costs a fifth of Key.
func (s *Scanner) Member(written string) bool {
	start := s.pos
	switch {
	case s.err != nil || s.level&1 == 0: // outside of all containers too
		return false
	case s.place == atFirst:
	case s.place == atNext && start < len(s.data) && s.data[start] == ',':
		start++
	default:
		return false
	}
	end := start + len(written)
	if end > len(s.data) || string(s.data[start:end]) != written {
		return false
	}
	s.pos, s.place = end, atValue
	return true
}

// Elem stands at the array's next element and reports true, or leaves the array at its end and reports false, as after an
// error.
func (s *Scanner) Elem() bool { return s.more(0) }

// Bool consumes a boolean.
func (s *Scanner) Bool() bool {
	if !s.begin(Bool) {
		return false
	}
	if s.data[s.pos] == 't' {
		return s.literal("true")
	}
	s.literal("false")
	return false
}

// Null consumes a null if it is next and reports whether it did. Any other value stays; that is no error.
func (s *Scanner) Null() bool {
	return s.Kind() == Null && s.literal("null")
}

// Skip consumes the next value, whatever it is, and checks its grammar all the same.
func (s *Scanner) Skip() {
	if s.stands('"') {
		s.skipQuoted()
		s.consumed()
		return
	}
	base := s.depth
	for s.err == nil {
		s.enter()
		for s.err == nil && s.depth > base && !s.toValue() {
		}
		if s.depth == base {
			return
		}
	}
}

// Raw consumes the next value and returns its text, checked but not decoded. It aliases the input.
func (s *Scanner) Raw() []byte {
	s.space()
	start := s.pos
	if s.Skip(); s.err != nil {
		return nil
	}
	return s.data[start:s.pos:s.pos]
}

// enter consumes the next value when it is a scalar, and only its opening when it is a container.
func (s *Scanner) enter() {
	switch s.Kind() {
	case Object:
		s.Object()
	case Array:
		s.Array()
	case String:
		s.skipQuoted()
		s.consumed()
	case Number:
		s.number()
	case Bool:
		s.Bool()
	case Null:
		s.Null()
	default:
		s.begin(Invalid)
	}
}

// toValue stands at the next value of the innermost container, past its key if it has one, and reports false when the
// container was left instead.
func (s *Scanner) toValue() bool {
	kind := s.level & 1
	if !s.more(kind) {
		return false
	}
	if kind == 0 {
		return true
	}
	if !s.quote() {
		return false
	}
	s.skipQuoted()
	return s.colon()
}

// begin stands at a value of the wanted kind, or fails.
func (s *Scanner) begin(want Kind) bool {
	kind := s.Kind()
	switch {
	case s.err != nil:
		return false
	case s.place != atValue:
		s.fail("a value was asked for where none can stand")
	case kind == End:
		s.fail("the text ends where a value should begin")
	case kind == Invalid:
		s.fail("no value begins with " + s.found())
	case kind != want:
		s.fail("expected " + want.String() + ", found " + kind.String())
	default:
		return true
	}
	return false
}

// more moves to the next item of the innermost container, whose kind must be the given one, or past the container's end.
func (s *Scanner) more(kind uint64) bool {
	if s.err != nil {
		return false
	}
	if s.depth == 0 || s.level&1 != kind || s.place == atValue {
		s.fail("a member was asked for where none can stand")
		return false
	}
	s.space()
	if s.pos == len(s.data) {
		s.fail("the text ends inside " + containers[kind].name)
		return false
	}
	switch b := s.data[s.pos]; {
	case b == containers[kind].closing:
		s.pos++
		s.pop()
		return false
	case s.place == atFirst:
	case b == ',':
		s.pos++
	default:
		s.fail("expected a comma or the end of " + containers[kind].name + ", found " + s.found())
		return false
	}
	s.place = atValue
	return true
}

var containers = [2]struct {
	name    string
	closing byte
}{{"an array", ']'}, {"an object", '}'}}

func (s *Scanner) push(kind uint64) bool {
	if s.depth == maxDepth {
		s.fail("nested deeper than 10,000")
		return false
	}
	s.pos++
	if s.depth > 0 && s.depth%64 == 0 {
		s.outer = append(s.outer, s.level)
	}
	s.level = s.level<<1 | kind
	s.depth++
	s.place = atFirst
	return true
}

func (s *Scanner) pop() {
	s.depth--
	s.level >>= 1
	if s.depth > 0 && s.depth%64 == 0 {
		last := len(s.outer) - 1
		s.level, s.outer = s.outer[last], s.outer[:last]
	}
	s.consumed()
}

// consumed is said when a value is behind.
func (s *Scanner) consumed() {
	s.place = atNext
	if s.depth == 0 {
		s.place = atEnd
	}
}

// space moves past the white space that JSON knows.
func (s *Scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\n', '\t', '\r':
			s.pos++
		default:
			return
		}
	}
}

// quote stands at the key that must come now.
func (s *Scanner) quote() bool {
	s.space()
	if s.pos == len(s.data) || s.data[s.pos] != '"' {
		s.fail("expected a key, found " + s.found())
		return false
	}
	return true
}

// colon moves past the colon that must come after a key.
func (s *Scanner) colon() bool {
	if s.err != nil {
		return false
	}
	s.space()
	if s.pos == len(s.data) || s.data[s.pos] != ':' {
		s.fail("expected a colon, found " + s.found())
		return false
	}
	s.pos++
	return true
}

func (s *Scanner) literal(word string) bool {
	rest := s.data[s.pos:]
	if len(rest) < len(word) || string(rest[:len(word)]) != word {
		s.fail("expected " + word)
		return false
	}
	s.pos += len(word)
	s.consumed()
	return true
}

// found names what stands at the current position, for an error.
func (s *Scanner) found() string {
	if s.pos >= len(s.data) {
		return End.String()
	}
	return fmt.Sprintf("%q", s.data[s.pos])
}

// fail records the error. It is the first: whatever may fail has looked at err before.
func (s *Scanner) fail(reason string) { s.err = &Error{Offset: s.pos, Reason: reason} }
