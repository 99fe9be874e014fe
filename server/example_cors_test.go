package server_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/sequin-go/sequin/server"
)

// The pages of one origin may call the server from a browser. A browser sends the Origin of a page with each request.
func ExampleCORS() {
	srv := server.New(server.Config{CORS: server.CORS{Origins: []string{"https://app.example.com"}}})
	web := httptest.NewServer(srv)
	defer web.Close()
	defer srv.Close()

	for _, origin := range []string{"https://app.example.com", "https://other.example.com"} {
		r, err := http.NewRequest("POST", web.URL+"/api/streams", strings.NewReader(`{"name":"orders"}`))
		if err != nil {
			log.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Origin", origin)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		resp, err := web.Client().Do(r)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Printf("%s: %s, may be read by %q\n", origin, resp.Status, resp.Header.Get("Access-Control-Allow-Origin"))
	}
	// Output:
	// https://app.example.com: 200 OK, may be read by "https://app.example.com"
	// https://other.example.com: 403 Forbidden, may be read by ""
}
