package main

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// readAll reads the records of a text; the errors of bad ones are collected.
func readAll(t *testing.T, format, text string) (records []record, bad []string) {
	t.Helper()
	next, err := formats[format](strings.NewReader(text))
	require.NoError(t, err)
	for n := int64(1); ; n++ {
		r, err := next()
		r.number = n
		switch {
		case err == io.EOF:
			return records, bad
		case err != nil:
			require.ErrorIs(t, err, errBadRecord)
			bad = append(bad, err.Error())
		default:
			records = append(records, r)
		}
	}
}

func TestKeysAreMadeFromFields(t *testing.T) {
	const order = `{"customer":{"id":"cus_a","name":"Zoë B."},"id":12345678901234567890,"vip":true,"tags":["x"],"note":null,"a.b":"dotted","empty":""}`
	for _, row := range []struct {
		template string
		sanitize bool
		key      string
		err      string
	}{
		{template: "orders.{customer.id}.{id}", key: "orders.cus_a.12345678901234567890"},
		{template: "r{line}", key: "r1"},
		{template: "{vip}", key: "true"},
		{template: "{a.b}", key: "dotted"},
		{template: "{{{id}}}", key: "{12345678901234567890}"},
		{template: "{customer.name}", err: `{customer.name}: "Zoë B." contains 'ë', which a token must not contain; see -sanitize`},
		{template: "{customer.name}", sanitize: true, key: "Zo__B_"},
		{template: "{missing}", err: "{missing}: is missing"},
		{template: "{customer.missing.deeper}", err: "is missing"},
		{template: "{tags}", err: `is ["x"], not a string`},
		{template: "{customer}", sanitize: true, err: "not a string"},
		{template: "{note}", err: "is null, not"},
		{template: "{empty}", sanitize: true, err: "is empty"},
	} {
		t.Run(row.template, func(t *testing.T) {
			tmpl, err := parseTemplate(row.template, row.sanitize)
			require.NoError(t, err)
			records, _ := readAll(t, "ndjson", order)
			key, err := tmpl.key(records[0])
			if row.err != "" {
				require.ErrorContains(t, err, row.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.key, key)
		})
	}
}

func TestEachRecordHasANewUUID(t *testing.T) {
	tmpl, err := parseTemplate("{uuid}", false)
	require.NoError(t, err)
	one, err := tmpl.key(record{})
	require.NoError(t, err)
	other, err := tmpl.key(record{})
	require.NoError(t, err)
	require.Len(t, one, 36)
	require.NotEqual(t, one, other)
}

func TestAWrongTemplateIsRefused(t *testing.T) {
	for template, says := range map[string]string{"": "is empty", "a.{": "needs a name", "{}": "needs a name", "{a": "needs a name", "a}": "without a {"} {
		_, err := parseTemplate(template, false)
		require.ErrorContains(t, err, says, template)
	}
}
