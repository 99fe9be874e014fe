package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// record is a message without its key. field returns the value of a field as it appears in a key.
type record struct {
	number int64 // from 1
	data   string
	field  func(name string) (string, error)
}

// errBadRecord is the error of a record that cannot be parsed. The records after it can be read.
var errBadRecord = errors.New("not a record")

// formats make readers of records. A reader returns io.EOF at the end, and errBadRecord for a single bad record.
var formats = map[string]func(io.Reader) (next func() (record, error), err error){
	"ndjson": readNDJSON,
	"csv":    readCSV,
	"lines":  readLines,
}

// maxLine is more than the largest message that the API accepts.
const maxLine = 16 << 20

func lineScanner(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	return s
}

func readLines(r io.Reader) (func() (record, error), error) {
	lines := lineScanner(r)
	return func() (record, error) {
		if !lines.Scan() {
			return record{}, endOf(lines)
		}
		return record{data: lines.Text(), field: noField}, nil
	}, nil
}

func noField(name string) (string, error) {
	return "", fmt.Errorf("a line has no field %q; it has only {line} and {uuid}", name)
}

func endOf(lines *bufio.Scanner) error {
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}

func readNDJSON(r io.Reader) (func() (record, error), error) {
	lines := lineScanner(r)
	return func() (record, error) {
		for lines.Scan() {
			text := bytes.TrimSpace(lines.Bytes())
			if len(text) == 0 {
				continue
			}
			var object map[string]json.RawMessage
			if err := json.Unmarshal(text, &object); err != nil || object == nil {
				return record{}, fmt.Errorf("%w: not a JSON object: %.60q", errBadRecord, text)
			}
			return record{data: string(text), field: func(name string) (string, error) { return jsonField(object, name) }}, nil
		}
		return record{}, endOf(lines)
	}, nil
}

func readCSV(r io.Reader) (func() (record, error), error) {
	rows := csv.NewReader(r)
	columns, err := rows.Read()
	if errors.Is(err, io.EOF) {
		return func() (record, error) { return record{}, io.EOF }, nil
	}
	if err != nil {
		return nil, err
	}
	columns[0] = string(bytes.TrimPrefix([]byte(columns[0]), []byte("\ufeff"))) // the byte order mark that spreadsheets write
	rows.ReuseRecord = true
	return func() (record, error) {
		row, err := rows.Read()
		if errors.Is(err, csv.ErrFieldCount) {
			return record{}, fmt.Errorf("%w: %d fields, the first row names %d", errBadRecord, len(row), len(columns))
		}
		if err != nil {
			return record{}, err
		}
		return record{data: rowJSON(columns, row), field: func(name string) (string, error) {
			if i := slices.Index(columns, name); i >= 0 {
				return row[i], nil
			}
			return "", fmt.Errorf("no column %q", name)
		}}, nil
	}, nil
}

// rowJSON keeps the order of the columns, which a map would not.
func rowJSON(columns, row []string) string {
	var b bytes.Buffer
	encode := json.NewEncoder(&b)
	encode.SetEscapeHTML(false)
	put := func(s string) {
		_ = encode.Encode(s)    // encoding a string into memory cannot fail
		b.Truncate(b.Len() - 1) // the encoder ends with a newline
	}
	for i, column := range columns {
		b.WriteByte("{,"[min(i, 1)])
		put(column)
		b.WriteByte(':')
		put(row[i])
	}
	b.WriteByte('}')
	return b.String()
}
