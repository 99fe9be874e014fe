package sequin_test

import (
	"encoding/json"
	"testing"

	"github.com/sequin-go/sequin"
)

// aChange is the data of a message as a sink delivers it.
const aChange = `{"record":{"customer":"ann","id":1,"qty":1},"metadata":{"consumer":{"id":"505e0510-0efe-450f-9873-efc78099bccb","name":"orders-sink",` +
	`"annotations":{}},"table_name":"orders","database":{"id":"6ba7f86d-bce0-4d7d-915c-fd67e4996a40","name":"shop","hostname":"127.0.0.1","database":"shop",` +
	`"annotations":{}},"commit_idx":0,"commit_lsn":77124768,"commit_timestamp":"2026-11-23T13:21:39.505010Z","idempotency_key":"NzcxMjQ3Njg6MA==",` +
	`"table_schema":"public","transaction_annotations":null,"record_pks":["1"],"enrichment":null,"database_name":"shop"},"action":"insert","changes":null}`

type benchRow struct {
	ID       int
	Customer string
	Qty      int
}

func BenchmarkDecodeChange(b *testing.B) {
	d := sequin.Delivery{Data: aChange}
	b.SetBytes(int64(len(aChange)))
	for b.Loop() {
		if _, err := sequin.DecodeChange[benchRow](d); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecodeChangeByJSON decodes the same with encoding/json alone.
func BenchmarkDecodeChangeByJSON(b *testing.B) {
	b.SetBytes(int64(len(aChange)))
	for b.Loop() {
		var change struct {
			Action   sequin.Action
			Record   benchRow
			Changes  map[string]json.RawMessage
			Metadata sequin.ChangeMetadata
		}
		if err := json.Unmarshal([]byte(aChange), &change); err != nil {
			b.Fatal(err)
		}
	}
}
