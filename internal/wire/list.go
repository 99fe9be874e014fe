package wire

import "github.com/sequin-go/sequin/internal/jscan"

// list reads the elements of {"data":[…]}.
type list struct {
	scan   jscan.Scanner
	found  bool // there is a member data
	inside bool // the scanner is in its list
	ended  bool
	err    error
}

// errNoData is the error of an answer without a list. Taking it for an empty list would lose messages.
var errNoData = RequireField(false, "data")

// reset begins to read an answer.
func (l *list) reset(body []byte) {
	*l = list{scan: l.scan}
	l.scan.Reset(body)
	l.scan.Object()
}

// next moves to the next element, and reports false at the end of the answer and after an error.
func (l *list) next() bool {
	for !l.ended && l.err == nil {
		if l.inside && l.scan.Elem() {
			return true
		}
		l.inside = false
		switch key, ok := l.scan.Key(); {
		case !ok:
			l.end()
			return false
		case string(key) == "data":
			l.found, l.inside = true, l.scan.Array()
		default:
			l.scan.Skip()
		}
	}
	return false
}

// end checks that the answer was read to its end.
func (l *list) end() {
	l.ended = true
	if l.err = l.scan.Done(); l.err == nil && !l.found {
		l.err = errNoData
	}
}
