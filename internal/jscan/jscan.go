// Package jscan reads and writes JSON on the path of messages. It appends strings, computes their size, and reads the values
// of a text in memory one after the other, without allocating.
//
// The Scanner accepts exactly the texts that encoding/json accepts, and returns the same values. Fuzz tests check that. Code
// that does not handle messages uses encoding/json.
//
// The package has no state besides that of a Scanner, and knows nothing of messages.
package jscan

// Kind is the kind of a value, as its first byte shows it.
type Kind uint8

const (
	Invalid Kind = iota // no value begins here, or the Scanner has failed
	Object
	Array
	String
	Number
	Bool
	Null
	End // the end of the text
)

var kindNames = [...]string{
	Invalid: "no value", Object: "an object", Array: "an array", String: "a string", Number: "a number",
	Bool: "a boolean", Null: "null", End: "the end of the text",
}

// String returns the kind with its article, for error messages.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Invalid]
}

// kindOf maps the first byte of a value to its kind, and all other bytes to Invalid.
var kindOf = func() (table [256]Kind) {
	table['{'], table['['], table['"'], table['n'] = Object, Array, String, Null
	table['t'], table['f'] = Bool, Bool
	table['-'] = Number
	for digit := '0'; digit <= '9'; digit++ {
		table[digit] = Number
	}
	return table
}()
