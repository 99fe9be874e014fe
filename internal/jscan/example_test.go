package jscan_test

import (
	"fmt"

	"github.com/sequin-go/sequin/internal/jscan"
)

func ExampleScanner() {
	var s jscan.Scanner
	s.Reset([]byte(`{"batch_size": 2, "ack_ids": ["a1", "a2"], "unknown": {"to": ["be", "skipped"]}}`))
	s.Object()
	for {
		key, ok := s.Key()
		if !ok {
			break
		}
		switch string(key) {
		case "batch_size":
			fmt.Println("size", s.Int())
		case "ack_ids":
			for s.Array(); s.Elem(); {
				fmt.Printf("ack %s\n", s.String())
			}
		default:
			s.Skip()
		}
	}
	fmt.Println(s.Done())
	// Output:
	// size 2
	// ack a1
	// ack a2
	// <nil>
}
