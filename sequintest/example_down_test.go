//go:build !plan9

package sequintest_test

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/sequin-go/sequin/sequintest"
)

func ExampleServer_Down() {
	t := &exampleTB{}
	defer t.end()
	srv := sequintest.NewServer(t, sequintest.Config{})
	client := srv.Client()
	_, _ = post(client, srv.URL+"/api/streams", `{"name":"orders"}`)

	srv.Down()
	_, err := client.Get(srv.URL + "/api/streams/orders")
	fmt.Println("refused:", errors.Is(err, syscall.ECONNREFUSED))
	srv.Up()
	fmt.Println("streams:", srv.Streams())
	// Output:
	// refused: true
	// streams: [orders]
}
