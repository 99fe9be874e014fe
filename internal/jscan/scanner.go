package jscan

import "fmt"

// maxDepth is the limit of encoding/json. The Scanner refuses the texts that json.Valid refuses.
const maxDepth = 10_000

// Error is the error of a Scanner. Offset counts bytes from the beginning of the text.
type Error struct {
	Offset int
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("json: %s at offset %d", e.Reason, e.Offset) }

// place is what the grammar allows next.
type place uint8

const (
	atValue place = iota // a value: at the beginning, after Key, after Elem
	atFirst              // the first member or element of a container, or its end
	atNext               // a comma or the container's end
	atEnd                // only white space, after the value of the text
)

// Scanner reads the values of a JSON text in their order. The example shows the loops.
//
// Each value has to be consumed, by the method for its kind or by Skip. After the first error every method returns its zero
// value, every loop over Key or Elem ends, and Err and Done return the error. So the caller needs to check only Done.
//
// The results of Key, String and Raw alias the text. For a string with escapes, or with bytes that are not UTF-8, they alias
// a buffer that the next call overwrites. The zero Scanner is ready for Reset, which keeps the buffer for reuse. A Scanner
// must not be used by several goroutines at once.
type Scanner struct {
	data  []byte
	pos   int
	place place

	// The open containers, with one bit each, which is set for an object. level holds the innermost ones, up to 64, and
	// outer holds full words of 64. So 10,000 levels take 1,250 bytes.
	depth int
	level uint64
	outer []uint64

	scratch []byte
	err     error
}

// Reset makes the Scanner read data from the beginning. The caller must not change data while its values are in use.
func (s *Scanner) Reset(data []byte) {
	*s = Scanner{data: data, outer: s.outer[:0], scratch: s.scratch[:0]}
}

// Err returns the first error, a *Error, or nil.
func (s *Scanner) Err() error { return s.err }

// Done returns nil if the text holds one value, which was consumed, and white space. Otherwise it returns a *Error.
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

// Kind returns the kind of the next value without consuming it. It returns End at the end of the text, and Invalid if the
// grammar allows no value here.
func (s *Scanner) Kind() Kind {
	if s.err != nil {
		return Invalid
	}
	// Servers write no white space, so the value is usually next.
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

// nextIs reports whether a value that begins with b is next, without white space before it. If it is not, begin decides.
func (s *Scanner) nextIs(b byte) bool {
	return s.place == atValue && s.err == nil && s.pos < len(s.data) && s.data[s.pos] == b
}

// Object enters the next value, which must be an object. Key reads its members and leaves it. Object fails and reports false
// if the next value is not an object or is nested deeper than 10,000.
func (s *Scanner) Object() bool { return s.begin(Object) && s.push(1) }

// Array enters the next value, which must be an array. Elem moves through it and leaves it. Array fails and reports false if
// the next value is not an array or is nested deeper than 10,000.
func (s *Scanner) Array() bool { return s.begin(Array) && s.push(0) }

// Key reads the key of the object's next member, unescaped; the member's value is next. At the end of the object it leaves
// the object, and ok is false. ok is also false after an error.
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

// Member moves to the value of the object's next member and reports true if that member begins with written, which is its key
// in quotes and the colon: `"id":`. Otherwise it changes nothing, and the caller uses Key. A caller that knows the usual
// order of the members calls Member first, because it takes a fifth of the time of Key.
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

// Elem moves to the next element of the array and reports true. At the end of the array it leaves the array and reports
// false. It also reports false after an error.
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

// Null consumes a null if it is next, and reports whether it did. Any other value is not consumed and is not an error.
func (s *Scanner) Null() bool {
	return s.Kind() == Null && s.literal("null")
}

// Skip consumes the next value of any kind, and checks its grammar.
func (s *Scanner) Skip() {
	if s.nextIs('"') {
		s.skipQuoted()
		s.consumed()
		return
	}
	if s.nextIs('{') && s.depth < maxDepth {
		if end := flatEnd(s.data, s.pos); end > 0 {
			s.pos = end
			s.consumed()
			return
		}
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

// enter consumes the next value if it is a scalar, and enters it if it is a container.
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

// toValue moves to the next value of the innermost container, past its key if it has one. At the end of the container it
// leaves the container and reports false.
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

// begin moves to the next value, which must be of the wanted kind, and fails otherwise.
func (s *Scanner) begin(want Kind) bool {
	kind := s.Kind()
	switch {
	case s.err != nil:
		return false
	case s.place != atValue:
		s.fail("a value was read where none is allowed")
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

// more moves to the next item of the innermost container, which must be of the given kind. At its end it leaves the
// container and reports false.
func (s *Scanner) more(kind uint64) bool {
	if s.err != nil {
		return false
	}
	if s.depth == 0 || s.level&1 != kind || s.place == atValue {
		s.fail("a member was read where none is allowed")
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

// containers is indexed by the kind of a container: 0 for an array, 1 for an object.
var containers = [2]struct {
	name    string
	closing byte
}{{"an array", ']'}, {"an object", '}'}}

// push enters a container of the given kind.
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

// pop leaves the innermost container.
func (s *Scanner) pop() {
	s.depth--
	s.level >>= 1
	if s.depth > 0 && s.depth%64 == 0 {
		last := len(s.outer) - 1
		s.level, s.outer = s.outer[last], s.outer[:last]
	}
	s.consumed()
}

// consumed updates place after a value.
func (s *Scanner) consumed() {
	s.place = atNext
	if s.depth == 0 {
		s.place = atEnd
	}
}

// space moves past the white space that JSON allows.
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

// quote moves to the opening quote of a key, which must be next.
func (s *Scanner) quote() bool {
	s.space()
	if s.pos == len(s.data) || s.data[s.pos] != '"' {
		s.fail("expected a key, found " + s.found())
		return false
	}
	return true
}

// colon moves past the colon after a key.
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

// literal consumes a word, which must be next.
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

// found describes the current position, for an error.
func (s *Scanner) found() string {
	if s.pos >= len(s.data) {
		return End.String()
	}
	return fmt.Sprintf("%q", s.data[s.pos])
}

// fail records the first error. Its callers check err before.
func (s *Scanner) fail(reason string) { s.err = &Error{Offset: s.pos, Reason: reason} }
