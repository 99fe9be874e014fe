package main

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin"
)

// The contenders of the part that measures sinks, besides limitName.
const (
	sinksPart   = "sinks"
	changeName  = "SubscribeSink, DecodeChange"
	stdlibName  = "SubscribeSink, encoding/json"
	noneName    = "SubscribeSink, decoding nothing"
	consumeSink = "consume"
)

// sinkSizes are the sizes of the rows.
var sinkSizes = []int{100, 1 << 10}

// sinkRow is a row of the table of a sink.
type sinkRow struct {
	ID       int    `json:"id"`
	Customer string `json:"customer"`
	Qty      int    `json:"qty"`
	Note     string `json:"note"`
}

// writeChange writes a message as a sink answers it. Its row has about as many bytes as size.
func writeChange(b *bytes.Buffer, i, size int, now string) {
	row, _ := stdjson.Marshal(sinkRow{i, "cus_" + strconv.Itoa(i), i % 10, payload(max(0, size-60))}) // cannot fail
	fmt.Fprintf(b, `{"data":{"record":%s,"metadata":{"consumer":{"id":"505e0510-0efe-450f-9873-efc78099bccb","name":"orders-sink","annotations":{}},`+
		`"table_name":"orders","database":{"id":"6ba7f86d-bce0-4d7d-915c-fd67e4996a40","name":"shop","hostname":"127.0.0.1","database":"shop","annotations":{}},`+
		`"commit_idx":%d,"commit_lsn":77124768,"commit_timestamp":%q,"idempotency_key":"NzcxMjQ3Njg6MA==","table_schema":"public",`+
		`"transaction_annotations":null,"record_pks":["%d"],"enrichment":null,"database_name":"shop"},"action":"insert","changes":null},"ack_id":%q}`,
		row, i, now, i, uuid.NewString())
}

// decodeByStdlib decodes a change as a program does that has no DecodeChange.
func decodeByStdlib(d sequin.Delivery) error {
	var change struct {
		Action   sequin.Action
		Record   sinkRow
		Changes  map[string]stdjson.RawMessage
		Metadata sequin.ChangeMetadata
	}
	return stdjson.Unmarshal([]byte(d.Data), &change)
}

func decodeChange(d sequin.Delivery) error {
	_, err := sequin.DecodeChange[sinkRow](d)
	return err
}

// consumeChanges decodes and acks n changes.
func (s settings) consumeChanges(decode func(sequin.Delivery) error) func(context.Context, string, int) (time.Duration, error) {
	return func(ctx context.Context, url string, n int) (time.Duration, error) {
		client, err := newClient(url)
		if err != nil {
			return 0, err
		}
		defer client.Close()
		began := time.Now()
		sub, err := client.SubscribeSink(ctx, "orders-sink", sequin.SinkConfig{Subscriber: s.subscriber})
		if err != nil {
			return 0, err
		}
		return ackAll(ctx, began, sub, n, decode)
	}
}

func sinkContenders() []contender {
	cell := func(name string, run func(context.Context, string, int) (time.Duration, error)) contender {
		return contender{sinksPart, consumeSink, name, func(ctx context.Context, n, size int) (time.Duration, error) {
			url, stop, err := serve(stubOf(size, true))
			if err != nil {
				return 0, err
			}
			defer stop()
			return run(ctx, url, n)
		}}
	}
	plainBy := func(batch int) func(context.Context, string, int) (time.Duration, error) {
		return func(ctx context.Context, url string, n int) (time.Duration, error) {
			return consumePlainBy(ctx, url+"/api/sequin_streams/orders-sink", n, batch)
		}
	}
	library := settings{}
	return []contender{
		cell(limitName, plainBy(sequin.MaxBatch)),
		cell(changeName, library.consumeChanges(decodeChange)),
		cell(stdlibName, library.consumeChanges(decodeByStdlib)),
		cell(noneName, library.consumeChanges(func(sequin.Delivery) error { return nil })),
	}
}

// measureSinks measures how fast changes of rows are received, decoded and acked, against a server that answers at once.
func measureSinks(ctx context.Context, opts options, all *results) error {
	measured, err := measureCells(ctx, opts, sinkSizes, sinkContenders())
	if err != nil {
		return err
	}
	all.Sinks = measured
	var rows [][]string
	for _, x := range measured {
		rows = append(rows, []string{sizeName(x.Size), x.Contender, thousands(x.PerSecond), fmt.Sprintf("%.2f", x.OfLimit)})
	}
	table("Changes of a sink, against a server that answers at once", []string{"row", "contender", "changes/s", "of the limit"}, rows)
	return nil
}
