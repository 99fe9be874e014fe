package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What the known servers write must be read the quick way.
func TestMessagesOfServersAreReadAsUsual(t *testing.T) {
	for _, row := range []struct {
		name, text string
		bare       bool
	}{
		{"of August 2024", `{"ack_id":"5b391d43-e673-441d-95db-41eeda838a4b","message":{"key":"m.6","stream_id":"4770f83e-665c-4f63-8621-b8ba358426b6",` +
			`"data_hash":"5/bAEXdujbfNMwtUF0/Xb30CFrYSOHpf/PuB5vCRloM=","data":"6","seq":20779,"inserted_at":"2026-11-23T12:36:41.228958Z",` +
			`"updated_at":"2026-11-23T12:36:41.228958Z"}}`, false},
		{"of package server", `{"ack_id":"5b391d43-e673-441d-95db-41eeda838a4b","deliver_count":2,"message":{"key":"m.6","stream_id":"4770f83e-665c-4f63-8621-b8ba358426b6",` +
			`"data_hash":"5/bAEXdujbfNMwtUF0/Xb30CFrYSOHpf/PuB5vCRloM=","data":"{\"größe\":1}","seq":7,"inserted_at":"2026-11-23T12:36:41.228958Z",` +
			`"updated_at":"2026-11-23T12:36:41.228958Z","headers":{"n":"1"}},"expired_count":1}`, false},
		{"of package server, bare", `{"ack_id":"5b391d43-e673-441d-95db-41eeda838a4b","deliver_count":1,"message":{"key":"m.6","size":2,"data":"é","seq":7,` +
			`"inserted_at":"2026-11-23T12:36:41.228958Z","updated_at":"2026-11-23T12:36:41.228958Z"}}`, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := Decoder{Bare: row.bare}
			for range 2 { // the second time the stream is known
				require.Equal(t, len(row.text), d.usual([]byte(row.text+","), new(Message), new(texts)))
			}
			for n := range row.text {
				require.Zero(t, d.usual([]byte(row.text[:n]), new(Message), new(texts)), "%s", row.text[:n])
			}
		})
	}
}
