package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// clients is how many clients send at once.
const clients = 64

// sendLoad sends orders for a time, each client one after the other, and prints the rate.
func sendLoad(ctx context.Context, url string, length time.Duration, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var accepted, failed atomic.Int64
	var group sync.WaitGroup
	begin := time.Now()
	for c := range clients {
		group.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				body := fmt.Sprintf(`{"id":"%d.%d","qty":4}`, c, i)
				answer, err := client.Post(url+"/orders", "application/json", strings.NewReader(body))
				if err != nil {
					failed.Add(1)
					continue
				}
				_, _ = io.Copy(io.Discard, answer.Body) // so that the connection is used again
				answer.Body.Close()
				if answer.StatusCode == http.StatusAccepted {
					accepted.Add(1)
				} else {
					failed.Add(1)
				}
			}
		})
	}
	group.Wait()
	took := time.Since(begin)
	fmt.Fprintf(out, "%d orders in %v, %.0f a second; %d failed\n", accepted.Load(), took.Round(time.Millisecond),
		float64(accepted.Load())/took.Seconds(), failed.Load())
	if failed.Load() > 0 {
		return fmt.Errorf("%d orders failed", failed.Load())
	}
	return nil
}
