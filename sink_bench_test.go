package sequin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

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
	Note     string
}

// byJSON decodes a change with encoding/json alone.
func byJSON(d sequin.Delivery) error {
	var change struct {
		Action   sequin.Action
		Record   benchRow
		Changes  map[string]json.RawMessage
		Metadata sequin.ChangeMetadata
	}
	return json.Unmarshal([]byte(d.Data), &change)
}

func byDecodeChange(d sequin.Delivery) error {
	_, err := sequin.DecodeChange[benchRow](d)
	return err
}

// newFountainOfChanges is a fountain of changes whose rows have a note of a size.
func newFountainOfChanges(tb testing.TB, size int) *fountain {
	tb.Helper()
	f := &fountain{acks: []byte(`{"ack_ids":[`)}
	for i := range sequin.MaxBatch {
		id := fmt.Sprintf("3f2a7c10-0000-4000-8000-%012d", i)
		row := fmt.Sprintf(`{"customer":"ann","id":%d,"qty":1,"note":"%s"}`, i, strings.Repeat("x", size))
		data := strings.NewReplacer(`{"customer":"ann","id":1,"qty":1}`, row, `["1"]`, fmt.Sprintf(`["%d"]`, i)).Replace(aChange)
		f.messages = fmt.Appendf(f.messages, `,{"data":%s,"ack_id":"%s"}`, data, id)
		f.ends = append(f.ends, len(f.messages))
		f.acks = fmt.Appendf(f.acks, `"%s",`, id)
	}
	f.start(tb)
	return f
}

// BenchmarkSubscribeSink receives, decodes and acks changes, as plain net/http does that decodes nothing. An operation is a
// change.
func BenchmarkSubscribeSink(b *testing.B) {
	for _, size := range []int{50, 1024} {
		f := newFountainOfChanges(b, size)
		b.Run(fmt.Sprintf("%dB/plain", size), func(b *testing.B) {
			post := func(verb string, body []byte) {
				resp, err := f.Client().Post(f.URL+"/api/sequin_streams/orders/"+verb, "application/json", bytes.NewReader(body))
				require.NoError(b, err)
				_, err = io.Copy(io.Discard, resp.Body)
				require.NoError(b, err)
				require.NoError(b, resp.Body.Close())
			}
			for n := 0; b.Loop(); n++ {
				if n%sequin.MaxBatch == 0 {
					post("receive", fmt.Appendf(nil, `{"batch_size":%d}`, sequin.MaxBatch))
					post("ack", f.acks)
				}
			}
		})
		for name, decode := range map[string]func(sequin.Delivery) error{
			"DecodeChange": byDecodeChange, "encoding-json": byJSON, "nothing": func(sequin.Delivery) error { return nil },
		} {
			b.Run(fmt.Sprintf("%dB/%s", size, name), func(b *testing.B) {
				client, err := sequin.NewClient(sequin.Config{BaseURL: f.URL})
				require.NoError(b, err)
				sub, err := client.SubscribeSink(b.Context(), "orders", sequin.SinkConfig{})
				require.NoError(b, err)
				for range 20_000 { // until the window has grown
					require.NoError(b, (<-sub.Deliveries()).Ack())
				}
				b.ReportAllocs()
				for b.Loop() {
					d := <-sub.Deliveries()
					if err := decode(d); err != nil {
						b.Fatal(err)
					}
					if err := d.Ack(); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				require.NoError(b, sub.Close(context.Background()))
				client.Close()
			})
		}
	}
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
	d := sequin.Delivery{Data: aChange}
	b.SetBytes(int64(len(aChange)))
	for b.Loop() {
		if err := byJSON(d); err != nil {
			b.Fatal(err)
		}
	}
}
