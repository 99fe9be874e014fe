package wire_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/wire"
)

// aChange has the members of a change in the order in which Sequin writes them.
const aChange = `{"record":{"customer":"ann","id":1},"metadata":{"consumer":{"id":"i","name":"orders-sink","annotations":{"a":1}},"table_name":"orders",` +
	`"database":{"id":"d"},"commit_idx":2,"commit_lsn":77124768,"commit_timestamp":"2026-11-23T13:21:39.505010Z","idempotency_key":"Nz==","table_schema":"public",` +
	`"transaction_annotations":{"by":"me"},"record_pks":["1","a\"b"],"enrichment":null,"database_name":"sh\u00f6p"},"action":"update","changes":{"customer":null,"\"q":[1, 2]}}`

func TestTheMembersOfAChangeAreRead(t *testing.T) {
	want := wire.ChangeData{
		Action: "update", Record: json.RawMessage(`{"customer":"ann","id":1}`),
		Changes:     map[string]json.RawMessage{"customer": json.RawMessage("null"), `"q`: json.RawMessage("[1, 2]")},
		TableSchema: "public", TableName: "orders", CommitTimestamp: time.Date(2026, 11, 23, 13, 21, 39, 505010000, time.UTC), CommitLSN: 77124768,
		CommitIdx: 2, IdempotencyKey: "Nz==", RecordPKs: []string{"1", `a"b`}, TransactionAnnotations: json.RawMessage(`{"by":"me"}`),
		Enrichment: json.RawMessage("null"), DatabaseName: "shöp", SinkID: "i", SinkName: "orders-sink", SinkAnnotations: json.RawMessage(`{"a":1}`),
	}
	got, err := wire.DecodeChange(aChange)
	require.NoError(t, err)
	require.Equal(t, want, got)

	var any map[string]any
	require.NoError(t, json.Unmarshal([]byte(aChange), &any))
	sorted, err := json.MarshalIndent(any, " ", "\t") // other places of the members, and white space
	require.NoError(t, err)
	got, err = wire.DecodeChange(string(sorted))
	require.NoError(t, err)
	require.JSONEq(t, string(want.Record), string(got.Record))
	require.JSONEq(t, string(want.TransactionAnnotations), string(got.TransactionAnnotations))
	require.JSONEq(t, `[1,2]`, string(got.Changes[`"q`]))
	got.Record, got.TransactionAnnotations, got.Changes, got.SinkAnnotations = want.Record, want.TransactionAnnotations, want.Changes, want.SinkAnnotations
	require.Equal(t, want, got)
}

func TestAChangeIsReadOrRefused(t *testing.T) {
	const valid = `"action":"insert","record":{}`
	for _, row := range []struct {
		name, text string
		check      func(*testing.T, wire.ChangeData)
		says       string
	}{
		{"no metadata", `{` + valid + `}`, func(t *testing.T, c wire.ChangeData) {
			require.Equal(t, wire.ChangeData{Action: "insert", Record: json.RawMessage(`{}`)}, c)
		}, ""},
		{"null members", `{` + valid + `,"changes":null,"metadata":{"consumer":null,"record_pks":null,"table_name":null,"commit_lsn":null}}`, func(t *testing.T, c wire.ChangeData) {
			require.Equal(t, wire.ChangeData{Action: "insert", Record: json.RawMessage(`{}`)}, c)
		}, ""},
		{"metadata null", `{` + valid + `,"metadata":null,"new":[{}]}`, func(t *testing.T, c wire.ChangeData) { require.Zero(t, c.CommitLSN) }, ""},
		{"no changes", `{` + valid + `,"changes":{}}`, func(t *testing.T, c wire.ChangeData) { require.Empty(t, c.Changes) }, ""},
		{"an unknown action", `{"action":"truncate","record":null}`, func(t *testing.T, c wire.ChangeData) {
			require.Equal(t, "truncate", c.Action)
			require.Equal(t, json.RawMessage("null"), c.Record)
		}, ""},
		{"a primary key of other types", `{` + valid + `,"metadata":{"record_pks":[1, "é", null, ""]}}`, func(t *testing.T, c wire.ChangeData) {
			require.Equal(t, []string{"1", "é", "null", ""}, c.RecordPKs)
		}, ""},
		{"a timestamp in microseconds", `{` + valid + `,"metadata":{"commit_timestamp":1795440099505010}}`, func(t *testing.T, c wire.ChangeData) {
			require.Equal(t, time.Date(2026, 11, 23, 13, 21, 39, 505010000, time.UTC), c.CommitTimestamp)
		}, ""},
		{"an unreadable timestamp", `{` + valid + `,"metadata":{"commit_timestamp":"today","commit_lsn":7}}`, func(t *testing.T, c wire.ChangeData) {
			require.True(t, c.CommitTimestamp.IsZero())
			require.Equal(t, int64(7), c.CommitLSN)
		}, ""},
		{"bytes that are not UTF-8", `{` + valid + `,"metadata":{"table_name":"a` + "\xff" + `"}}`, func(t *testing.T, c wire.ChangeData) {
			require.Equal(t, "a\uFFFD", c.TableName)
		}, ""},
		{"no action", `{"record":{}}`, nil, `no "action"`},
		{"no record", `{"action":"insert"}`, nil, `no "record"`},
		{"an LSN that is a text", `{` + valid + `,"metadata":{"commit_lsn":"7"}}`, nil, "a string"},
		{"a list", `[]`, nil, "an array"},
		{"cut", `{` + valid, nil, "ends"},
		{"more than a value", `{` + valid + `}{}`, nil, "after"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := wire.DecodeChange(row.text)
			if row.says != "" {
				require.ErrorContains(t, err, row.says)
				return
			}
			require.NoError(t, err)
			row.check(t, got)
		})
	}
}

func TestAppendingToAValueOfAChangeLeavesTheOthers(t *testing.T) {
	c, err := wire.DecodeChange(aChange)
	require.NoError(t, err)
	_ = append(c.Record, "overwritten"...)
	require.Equal(t, `{"by":"me"}`, string(c.TransactionAnnotations))
	_ = append(c.Changes["customer"], "overwritten"...)
	require.Equal(t, "[1, 2]", string(c.Changes[`"q`]))
}

// FuzzDecodeChange compares with encoding/json.
func FuzzDecodeChange(f *testing.F) {
	for _, text := range []string{aChange, `{"action":"","record":1}`, `{"action":"insert","record":{},"changes":{"a":{}}}`, ` {"record" : null , "action" : "\u0061"}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := wire.DecodeChange(text)
		if err != nil {
			return
		}
		var want struct {
			members  map[string]json.RawMessage
			action   string
			changes  map[string]json.RawMessage
			metadata map[string]json.RawMessage
			table    string
		}
		require.NoError(t, json.Unmarshal([]byte(text), &want.members))
		require.NoError(t, json.Unmarshal(want.members["action"], &want.action))
		require.Equal(t, want.action, got.Action)
		require.Equal(t, string(want.members["record"]), string(got.Record))
		if changes := want.members["changes"]; changes != nil {
			require.NoError(t, json.Unmarshal(changes, &want.changes))
		}
		require.Equal(t, len(want.changes), len(got.Changes))
		for name, value := range want.changes {
			require.Equal(t, string(value), string(got.Changes[name]))
		}
		if metadata := want.members["metadata"]; metadata != nil && strings.Count(text, "metadata") == 1 { // a second one adds to the first
			require.NoError(t, json.Unmarshal(metadata, &want.metadata))
			if name := want.metadata["table_name"]; name != nil {
				require.NoError(t, json.Unmarshal(name, &want.table))
			}
			require.Equal(t, want.table, got.TableName)
		}
	})
}
