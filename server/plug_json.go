package server

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"strconv"
	"strings"
)

// decodePlug decodes JSON as the 2024 server does: of a name that occurs more than once the first value counts, and a number
// that is too large makes the text malformed. Numbers are json.Number.
func decodePlug(text []byte) (any, bool) {
	if !isText(text) || !json.Valid(text) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, ok := decodeValue(d)
	if !ok {
		return nil, false
	}
	_, err := d.Token()
	return v, err == io.EOF
}

func decodeValue(d *json.Decoder) (any, bool) {
	token, err := d.Token()
	if err != nil {
		return nil, false
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '[' {
			return decodeList(d)
		}
		return decodeObject(d)
	case json.Number:
		return token, representable(string(token))
	default:
		return token, true
	}
}

func decodeList(d *json.Decoder) (any, bool) {
	list := []any{}
	for d.More() {
		v, ok := decodeValue(d)
		if !ok {
			return nil, false
		}
		list = append(list, v)
	}
	_, err := d.Token()
	return list, err == nil
}

func decodeObject(d *json.Decoder) (any, bool) {
	object := map[string]any{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, false
		}
		v, ok := decodeValue(d)
		if !ok {
			return nil, false
		}
		if _, again := object[name.(string)]; !again {
			object[name.(string)] = v
		}
	}
	_, err := d.Token()
	return object, err == nil
}

// maxDigits is how long an integer may be for the 2024 server's decoder.
const maxDigits = 1_024

// representable reports whether the 2024 server can decode a number.
func representable(number string) bool {
	if !isFloat(number) {
		return len(number) <= maxDigits
	}
	f, _ := strconv.ParseFloat(number, 64)
	return !math.IsInf(f, 0)
}

// isFloat reports whether a JSON number has a fraction or an exponent. The 2024 server then takes it for no integer.
func isFloat(number string) bool { return strings.ContainsAny(number, ".eE") }
