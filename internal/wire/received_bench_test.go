package wire_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/sequin-go/sequin/internal/wire"
)

// BenchmarkDecodeReceive decodes answers as servers write them: with all members, bare, and with data that is JSON itself. An
// operation is a message.
func BenchmarkDecodeReceive(b *testing.B) {
	const whole = `"stream_id":"0f6b1c9e-7a55-4c5e-9a39-0a5d6c2f7d11","data_hash":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",`
	for _, row := range []struct{ name, members, data string }{
		{"100 B", whole, strings.Repeat("x", 100)}, {"1 KiB", whole, strings.Repeat("x", 1<<10)},
		{"bare", "", strings.Repeat("x", 100)}, {"JSON", whole, strings.Repeat(`\"a\":[1,2],`, 10)},
	} {
		b.Run(row.name, func(b *testing.B) {
			var body bytes.Buffer
			body.WriteString(`{"data":[`)
			for i := range 1000 {
				if i > 0 {
					body.WriteByte(',')
				}
				fmt.Fprintf(&body, `{"ack_id":"3f2a7c10-0000-4000-8000-%012d","deliver_count":1,"message":{"key":"orders.%d",%s"data":"%s","seq":%d,`+
					`"inserted_at":"2024-08-15T10:30:05.%06dZ","updated_at":"2024-08-15T10:30:05.%06dZ"}}`, i, i, row.members, row.data, i+1, i/10, i/10)
			}
			body.WriteString(`]}`)
			d, m := wire.Decoder{Bare: true}, wire.Message{}
			d.Reset(body.Bytes())
			b.ReportAllocs()
			for b.Loop() {
				for !d.Next(&m) {
					if err := d.Err(); err != nil {
						b.Fatal(err)
					}
					d.Reset(body.Bytes())
				}
			}
		})
	}
}
