package server

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sequin-go/sequin/server/internal/store"
)

// This file is how the 2024 server reads single values.

// plugRef reads the id or the name of a stream or a consumer. What looks like a UUID of version 4 is an id. The 2024 server
// takes some forms of a UUID that its database then refuses.
func plugRef(ref string) (string, error) {
	if _, form := parseUUID4([]byte(ref)); form == plainUUID {
		return strings.ToLower(ref), nil
	} else if form == otherUUID {
		return "", errBadCast
	}
	return ref, databaseText(ref)
}

// databaseText is what the database says of a text: it takes UTF-8 without NUL.
func databaseText(text string) error {
	if !utf8.ValidString(text) || strings.Contains(text, "\x00") {
		return errInternal
	}
	return nil
}

// uuidForm is the form of a UUID.
type uuidForm uint8

const (
	noUUID    uuidForm = iota
	plainUUID          // 36 characters
	otherUUID          // without dashes, or with "urn:uuid:" before it
)

// parseUUID4 reads a UUID of version 4 in any form that the 2024 server knows.
func parseUUID4(text []byte) (store.ID, uuidForm) {
	id, form := parseUUID(text)
	if !id.IsVersion4() {
		form = noUUID
	}
	return id, form
}

// parseUUID reads a UUID in any form that Sequin's servers know.
func parseUUID(text []byte) (store.ID, uuidForm) {
	const urn = "urn:uuid:"
	form := plainUUID
	switch {
	case len(text) == 32:
		text, form = dashed(text), otherUUID
	case len(text) == len(urn)+36 && strings.EqualFold(string(text[:len(urn)]), urn):
		text, form = text[len(urn):], otherUUID
	}
	id, ok := store.ParseID(text)
	if !ok {
		return id, noUUID
	}
	return id, form
}

// plugAckID reads an ack id. errBadCast comes after every other error.
func plugAckID(text []byte) (store.ID, error) {
	id, form := parseUUID4(text)
	switch form {
	case plainUUID:
		return id, nil
	case otherUUID:
		return id, errBadCast
	}
	return id, errAckIDs
}

// readAckID reads an ack id of the documented mode.
func readAckID(text []byte) (store.ID, error) {
	id, ok := store.ParseID(text)
	if !ok {
		return id, errAckIDs
	}
	return id, nil
}

// plugBatchSize reads a batch_size. A number with a fraction or an exponent within the limits is refused by the database,
// and what is neither a number nor a text makes the 2024 server fail.
func plugBatchSize(v any) (int, error) {
	var text string
	switch v := v.(type) {
	case json.Number:
		if text = string(v); isFloat(text) {
			if f, _ := strconv.ParseFloat(text, 64); f > 0 && f <= maxBatchSize {
				return 0, errInternal
			}
			return 0, errBatchSize
		}
	case string:
		text = v
	default:
		return 0, errInternal
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxBatchSize {
		return 0, errBatchSize
	}
	return n, nil
}

// checkWindow is what the database says of a receive: it refuses a negative max_ack_pending.
func (c *call) checkWindow(consumer store.Consumer) error {
	info, err := consumer.Info(c.ctx())
	if err == nil && info.MaxAckPending < 0 {
		return errInternal
	}
	return err
}

// plugLimit reads the limit of a list.
func plugLimit(v any) (int, error) {
	if _, ok := v.(string); !ok {
		return 0, errInternal
	}
	return readLimit(v)
}

// plugPattern reads the key_pattern of a list. The query for a pattern of 16 tokens without ">" at its end names a column
// that the table does not have.
func plugPattern(v any) (string, error) {
	pattern, ok := v.(string)
	if !ok {
		return "", errInternal
	}
	tokens := strings.Split(pattern, ".")
	last := tokens[len(tokens)-1]
	for _, rule := range []struct {
		broken bool
		text   string
	}{
		{pattern == "", "Key pattern must not be empty"},
		{tokens[0] == "" || last == "", "Key pattern must not start or end with a delimiter"},
		{strings.Contains(pattern, ".."), "Key pattern must not contain empty tokens"},
		{utf8.RuneCountInString(pattern) > store.MaxKey, "Key pattern must not exceed 255 characters"},
		{len(tokens) > store.MaxTokens, "Key pattern must not contain more than 16 tokens"},
		{strings.Contains("."+pattern, ".>."), "Wildcard '>' can only appear at the end of the pattern"},
	} {
		if rule.broken {
			return "", badRequest("Invalid key pattern: %s", rule.text)
		}
	}
	if len(tokens) == store.MaxTokens && last != ">" {
		return "", errInternal
	}
	return pattern, databaseText(pattern)
}
