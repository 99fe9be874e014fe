package wire_test

import (
	"encoding/json"
	"fmt"
	"reflect"
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

// decodeChange decodes with a plan of its own, and again with one that knows other changes.
func decodeChange(text string) (wire.ChangeData, error) {
	var any any
	into := reflect.ValueOf(&any).Elem()
	first, _, err := new(wire.ChangePlan).Decode(text, into, new(wire.ChangeRoom))
	again, _, errAgain := wire.ChangePlanOf(into.Type()).Decode(text, into, new(wire.ChangeRoom))
	if !reflect.DeepEqual(first, again) || fmt.Sprint(err) != fmt.Sprint(errAgain) {
		return again, fmt.Errorf("%+v and %w, and with a plan that knows changes %+v and %w", first, err, again, errAgain)
	}
	return first, err
}

func TestTheMembersOfAChangeAreRead(t *testing.T) {
	want := wire.ChangeData{
		Action: "update", Record: `{"customer":"ann","id":1}`,
		Changes: map[string]json.RawMessage{"customer": json.RawMessage("null"), `"q`: json.RawMessage("[1, 2]")},
		ChangeMetadata: wire.ChangeMetadata{TableSchema: "public", TableName: "orders", CommitTimestamp: time.Date(2026, 11, 23, 13, 21, 39, 505010000, time.UTC), CommitLSN: 77124768,
			CommitIdx: 2, IdempotencyKey: "Nz==", RecordPKs: []string{"1", `a"b`}, TransactionAnnotations: json.RawMessage(`{"by":"me"}`),
			Enrichment: json.RawMessage("null"), DatabaseName: "shöp", SinkID: "i", SinkName: "orders-sink", SinkAnnotations: json.RawMessage(`{"a":1}`)},
	}
	got, err := decodeChange(aChange)
	require.NoError(t, err)
	require.Equal(t, want, got)

	var any map[string]any
	require.NoError(t, json.Unmarshal([]byte(aChange), &any))
	sorted, err := json.MarshalIndent(any, " ", "\t") // other places of the members, and white space
	require.NoError(t, err)
	got, err = decodeChange(string(sorted))
	require.NoError(t, err)
	require.JSONEq(t, want.Record, got.Record)
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
			require.Equal(t, wire.ChangeData{Action: "insert", Record: `{}`}, c)
		}, ""},
		{"null members", `{` + valid + `,"changes":null,"metadata":{"consumer":null,"record_pks":null,"table_name":null,"commit_lsn":null}}`, func(t *testing.T, c wire.ChangeData) {
			require.Equal(t, wire.ChangeData{Action: "insert", Record: `{}`}, c)
		}, ""},
		{"metadata null", `{` + valid + `,"metadata":null,"new":[{}]}`, func(t *testing.T, c wire.ChangeData) { require.Zero(t, c.CommitLSN) }, ""},
		{"no changes", `{` + valid + `,"changes":{}}`, func(t *testing.T, c wire.ChangeData) { require.Empty(t, c.Changes) }, ""},
		{"an unknown action", `{"action":"truncate","record":null}`, func(t *testing.T, c wire.ChangeData) {
			require.Equal(t, "truncate", c.Action)
			require.Equal(t, "null", c.Record)
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
		{"a timestamp that is no text", `{` + valid + `,"metadata":{"commit_timestamp":{"a":1},"commit_lsn":7}}`, func(t *testing.T, c wire.ChangeData) {
			require.True(t, c.CommitTimestamp.IsZero())
			require.Equal(t, int64(7), c.CommitLSN)
		}, ""},
		{"no action", `{"record":{}}`, nil, `no "action"`},
		{"no record", `{"action":"insert"}`, nil, `no "record"`},
		{"an LSN that is a text", `{` + valid + `,"metadata":{"commit_lsn":"7"}}`, nil, "a string"},
		{"a list", `[]`, nil, "an array"},
		{"cut", `{` + valid, nil, "ends"},
		{"more than a value", `{` + valid + `}{}`, nil, "after"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := decodeChange(row.text)
			if row.says != "" {
				require.ErrorContains(t, err, row.says)
				return
			}
			require.NoError(t, err)
			row.check(t, got)
		})
	}
}

func TestTheEndOfAChangeIsRead(t *testing.T) {
	const begin = `{"record":{"id":1},"metadata":{"table_name":"orders"}`
	for end, action := range map[string]string{
		`,"action":"insert","changes":null}`: "insert", `,"action":"update","changes":{}}`: "update", `,"action":"update","changes":null}`: "update",
		`,"action":"delete","changes":null}`: "delete", `,"action":"read","changes":null}`: "read", `,"action":"delete","changes":{}} `: "delete",
		` ,"action":"insert","changes":null}`: "insert", `,"action":"insert","changes":null,"action":"read"}`: "read",
	} {
		c, err := decodeChange(begin + end)
		require.NoError(t, err, end)
		require.Equal(t, action, c.Action, end)
		require.Nil(t, c.Changes, end)
		require.Equal(t, `{"id":1}`, c.Record, end)
	}
	for _, end := range []string{`,"action":"insert","changes":null}}`, `,"action":"insert","changes":null},`, `,"action":"insert","changes":null`, `"action":"read","changes":null}`} {
		_, err := decodeChange(begin + end)
		require.Error(t, err, end)
	}
	_, err := decodeChange(`{"metadata":{},"action":"insert","changes":null}`)
	require.ErrorContains(t, err, `no "record"`)
}

func TestAppendingToAValueOfAChangeLeavesTheOthers(t *testing.T) {
	c, err := decodeChange(aChange)
	require.NoError(t, err)
	_ = append(c.SinkAnnotations, "overwritten"...)
	_ = append(c.TransactionAnnotations, "overwritten"...)
	require.Equal(t, "null", string(c.Enrichment))
	require.Equal(t, `{"by":"me"}`, string(c.TransactionAnnotations))
	_ = append(c.Changes["customer"], "overwritten"...)
	require.Equal(t, "[1, 2]", string(c.Changes[`"q`]))
	pks := append(c.RecordPKs, "overwritten")
	require.Equal(t, []string{"1", `a"b`}, pks[:2])
	require.Equal(t, "null", string(c.Enrichment))
}

// FuzzDecodeChange compares with encoding/json.
func FuzzDecodeChange(f *testing.F) {
	for _, text := range []string{aChange, `{"action":"","record":1}`, `{"action":"insert","record":{},"changes":{"a":{}}}`, ` {"record" : null , "action" : "\u0061"}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := decodeChange(text)
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
		require.Equal(t, string(want.members["record"]), got.Record)
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

func TestChangesOfSeveralSinksAreReadInTurn(t *testing.T) {
	plan := new(wire.ChangePlan)
	var row any
	for range 20 { // more than a plan remembers
		for sink := range 3 {
			text := fmt.Sprintf(`{"record":{},"metadata":{"consumer":{"id":"%d","name":"s%d","annotations":{"n":%d}},"table_name":"t","database":{"id":"%d"}},"action":"read"}`, sink, sink, sink, sink)
			for range 2 {
				c, _, err := plan.Decode(text, reflect.ValueOf(&row).Elem(), new(wire.ChangeRoom))
				require.NoError(t, err)
				require.Equal(t, []string{fmt.Sprint(sink), fmt.Sprintf("s%d", sink), fmt.Sprintf(`{"n":%d}`, sink)}, []string{c.SinkID, c.SinkName, string(c.SinkAnnotations)})
				clear(c.SinkAnnotations) // a program may change its copy
			}
		}
	}
}

func TestADatabaseThatIsNoObjectIsSkipped(t *testing.T) {
	plan := new(wire.ChangePlan)
	var row any
	for _, database := range []string{"1", "12", "null", `"a"`, `"ab"`, `{}`, `{"a":1}`} {
		c, _, err := plan.Decode(`{"record":{},"metadata":{"consumer":{},"database":`+database+`,"commit_idx":7},"action":"read"}`, reflect.ValueOf(&row).Elem(), new(wire.ChangeRoom))
		require.NoError(t, err, database)
		require.Equal(t, 7, c.CommitIdx)
	}
}
