package wire

import (
	"github.com/sequin-go/sequin/internal/jscan"
)

// layout is the text of the metadata of a change, with holes where other changes of the sink have other values. Metadata that
// differs in the holes only is read by comparing the parts between them, in a quarter of the time.
type layout struct {
	text  []byte
	holes [varyings]hole // in the order of the text
	count int            // of the holes
}

// maxLayout limits the memory of a layout. Metadata has about 600 bytes, and more with annotations.
const maxLayout = 4 << 10

// hole is a value in a layout.
type hole struct {
	what     varying
	from, to int
}

// varying names a value that differs between the changes of a sink.
type varying uint8

const (
	commitIdx varying = iota
	commitLSN
	commitTimestamp
	idempotencyKey
	recordPKs
	varyings // how many there are
)

// varyingOf returns which value a member of the metadata holds, or varyings if it is the same for most changes.
func varyingOf(key []byte) varying {
	switch string(key) {
	case "commit_idx":
		return commitIdx
	case "commit_lsn":
		return commitLSN
	case "commit_timestamp":
		return commitTimestamp
	case "idempotency_key":
		return idempotencyKey
	case "record_pks":
		return recordPKs
	}
	return varyings
}

// span is where a value is in a text.
type span struct{ from, to int }

// ends are what changes without old values have behind their metadata.
var ends = [...]struct{ text, action string }{
	{`,"action":"insert","changes":null}`, "insert"},
	{`,"action":"update","changes":{}}`, "update"}, // of a table without REPLICA IDENTITY FULL
	{`,"action":"delete","changes":null}`, "delete"},
	{`,"action":"read","changes":null}`, "read"},
}

// closeChange leaves a change whose metadata was read, and returns its action, if it ends as most changes do. Otherwise it returns
// "".
func closeChange(s *jscan.Scanner) (action string) {
	for i := range ends {
		if s.Close(ends[i].text) {
			return ends[i].action
		}
	}
	return ""
}

// begin empties the layout, before other metadata is read.
func (l *layout) begin() { l.text, l.count = l.text[:0], 0 }

// hole adds a value that was read from mark on, unless it is the same for most changes. s is behind it, and the metadata begins
// at base.
func (l *layout) hole(s *jscan.Scanner, what varying, base, mark int) {
	if what == varyings {
		return
	}
	if l.count < len(l.holes) {
		l.holes[l.count] = hole{what, mark - base, mark - base + len(s.Since(mark))}
	}
	l.count++
}

// isComplete reports whether text, the metadata that was read, and the holes can be a layout: no member is twice in it, and it is
// not long.
func (l *layout) isComplete(text []byte) bool {
	return l.count <= len(l.holes) && len(text) <= maxLayout
}

// match reports whether text begins with metadata of the layout. values are then where its values are, and n is its length. A
// value that has an escape or is not of the usual kind does not match.
func (l *layout) match(text []byte) (values [varyings]span, n int, ok bool) {
	if len(l.text) == 0 {
		return values, 0, false
	}
	from := 0
	for i := range l.count {
		h := &l.holes[i]
		part := l.text[from:h.from]
		if len(text)-n <= len(part) || string(text[n:n+len(part)]) != string(part) {
			return values, 0, false
		}
		n += len(part)
		end := h.what.endOf(text, n)
		if end == 0 {
			return values, 0, false
		}
		values[h.what] = span{n, end}
		n, from = end, h.to
	}
	part := l.text[from:]
	if len(text)-n < len(part) || string(text[n:n+len(part)]) != string(part) {
		return values, 0, false
	}
	return values, n + len(part), true
}

// endOf returns the end of the value that begins at i, or 0.
func (w varying) endOf(text []byte, i int) int {
	switch w {
	case commitIdx, commitLSN:
		return digitsEnd(text, i)
	case commitTimestamp:
		if text[i] != '"' {
			return digitsEnd(text, i)
		}
		return plainEnd(text, i)
	case idempotencyKey:
		return plainEnd(text, i)
	}
	if text[i] != '[' {
		return 0
	}
	for i++; i < len(text); i++ {
		if i = plainEnd(text, i); i == 0 || i == len(text) {
			return 0
		}
		switch text[i] {
		case ']':
			return i + 1
		case ',':
		default:
			return 0
		}
	}
	return 0
}

// plainEnd returns the end of a string of plain ASCII, or 0.
func plainEnd(text []byte, i int) int {
	if text[i] != '"' {
		return 0
	}
	if i = jscan.PlainEnd(text, i+1); i == len(text) || text[i] != '"' {
		return 0
	}
	return i + 1
}

// digitsEnd returns the end of an integer of 1 to 18 digits, or 0.
func digitsEnd(text []byte, i int) int {
	from := i
	for i < len(text) && text[i]-'0' <= 9 {
		i++
	}
	if i == from || i > from+18 || text[from] == '0' && i > from+1 {
		return 0
	}
	return i
}

// number returns the integer at a span that digitsEnd has found.
func (v span) number(text string) (n int64) {
	for _, digit := range []byte(text[v.from:v.to]) {
		n = 10*n + int64(digit-'0')
	}
	return n
}

// first returns where the first string of the list is that endOf has found, without its quotes, and where the next one is looked
// for, or 0 if there is none.
func (v span) first(text []byte) (value span, next int) { return v.next(text, v.from+1) }

// next returns where the string is whose quote is at i, as first does.
func (v span) next(text []byte, i int) (value span, next int) {
	if i >= v.to-1 {
		return span{}, 0
	}
	end := jscan.PlainEnd(text, i+1)
	return span{i + 1, end}, end + len(`",`)
}

// quoted returns the string at a span that plainEnd has found, without its quotes, or "" for an empty span.
func (v span) quoted(text string) string {
	if v.to == v.from {
		return ""
	}
	return text[v.from+1 : v.to-1]
}
