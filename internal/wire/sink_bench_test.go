package wire_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/wire"
)

func BenchmarkDecodeReceiveOfASink(b *testing.B) {
	const message = `{"data":{"record":{"customer":"ann","id":1,"qty":1},"metadata":{"consumer":{"id":"505e0510-0efe-450f-9873-efc78099bccb","name":"orders-sink",` +
		`"annotations":{}},"table_name":"orders","database":{"id":"6ba7f86d-bce0-4d7d-915c-fd67e4996a40","name":"shop","hostname":"127.0.0.1","database":"shop",` +
		`"annotations":{}},"commit_idx":0,"commit_lsn":77124768,"commit_timestamp":"2026-11-23T13:21:39.505010Z","idempotency_key":"NzcxMjQ3Njg6MA==",` +
		`"table_schema":"public","transaction_annotations":null,"record_pks":["1"],"enrichment":null,"database_name":"shop"},"action":"insert","changes":null},` +
		`"ack_id":"20c86338-d53d-4742-9257-4fdfad9e1093"}`
	const messages = 1000
	body := []byte(`{"data":[` + strings.TrimSuffix(strings.Repeat(message+",", messages), ",") + `]}`)
	var d wire.ChangeDecoder
	var m wire.Change
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		for d.Reset(body); d.Next(&m); {
		}
		require.NoError(b, d.Err())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*messages), "ns/message")
}
