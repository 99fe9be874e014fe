package feed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/template"

	"github.com/sequin-go/sequin"
)

// ParseMessage makes a message of a line {"key":…,"data":…}. Data that is a string is the data itself; other data is sent as
// its JSON. Other fields are ignored, so that what "sequin receive --json" prints can be sent.
func ParseMessage(line []byte) (sequin.Message, error) {
	var m struct {
		Key  *string         `json:"key"`
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return sequin.Message{}, fmt.Errorf("not a JSON object with a key: %w", err)
	}
	switch {
	case m.Key == nil:
		return sequin.Message{}, errors.New(`there is no "key"`)
	case m.Data == nil:
		return sequin.Message{}, errors.New(`there is no "data"`)
	}
	data := string(m.Data)
	if m.Data[0] == '"' {
		if err := json.Unmarshal(m.Data, &data); err != nil {
			return sequin.Message{}, err
		}
	}
	return sequin.Message{Key: *m.Key, Data: data}, nil
}

// KeyTemplate returns a function that sends each line as it is, under the key that the template makes of its JSON. The syntax
// is that of text/template. A field that is missing refuses the line.
func KeyTemplate(text string) (func(line []byte) (sequin.Message, error), error) {
	t, err := template.New("key").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, err
	}
	return func(line []byte) (sequin.Message, error) {
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.UseNumber() // 10000000 stays what it is
		var value map[string]any
		if err := decoder.Decode(&value); err != nil {
			return sequin.Message{}, fmt.Errorf("not a JSON object: %w", err)
		}
		if decoder.More() {
			return sequin.Message{}, errors.New("not one JSON object a line")
		}
		var key strings.Builder
		if err := t.Execute(&key, value); err != nil {
			return sequin.Message{}, fmt.Errorf("no key: %w", err)
		}
		return sequin.Message{Key: key.String(), Data: string(line)}, nil
	}, nil
}
