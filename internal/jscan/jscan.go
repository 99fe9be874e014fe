// Package jscan reads and writes the few JSON shapes that carry messages: it appends strings, measures them, and pulls
// values out of a text in memory without building a tree and without allocating.
//
// It is strict: the Scanner accepts exactly the texts that encoding/json accepts, and yields the same values. Fuzz tests
// hold it to that. Everything that is not on the path of a message stays with encoding/json.
package jscan

// Kind tells what a value is by its first byte.
type Kind uint8

const (
	Invalid Kind = iota // no value begins here, or the Scanner has failed
	Object
	Array
	String
	Number
	Bool
	Null
	End // the text is over
)

var kindNames = [...]string{
	Invalid: "no value", Object: "an object", Array: "an array", String: "a string", Number: "a number",
	Bool: "a boolean", Null: "null", End: "the end of the text",
}

// String returns the kind as an error message says it, with its article.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Invalid]
}

// kindOf maps the first byte of a value to its kind; every other byte is Invalid.
var kindOf = func() (table [256]Kind) {
	table['{'], table['['], table['"'], table['n'] = Object, Array, String, Null
	table['t'], table['f'] = Bool, Bool
	table['-'] = Number
	for digit := '0'; digit <= '9'; digit++ {
		table[digit] = Number
	}
	return table
}()
