package sequintest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/sequintest"
)

func TestEachRouteBelongsToAnOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, sequintest.Config{})
		for _, c := range []struct {
			method, path string
			want         sequintest.Op
		}{
			{"POST", "/api/streams", sequintest.CreateStream},
			{"GET", "/api/streams", sequintest.ListStreams},
			{"GET", "/api/streams/", sequintest.ListStreams},
			{"GET", "/api/streams/s", sequintest.GetStream},
			{"HEAD", "/api/streams/s", sequintest.GetStream},
			{"DELETE", "/api/streams/s", sequintest.DeleteStream},
			{"PUT", "/api/streams/s", sequintest.Other},
			{"POST", "/api/streams/s/messages", sequintest.Send},
			{"GET", "/api/streams/s/messages?limit=1", sequintest.ListMessages},
			{"GET", "/api/streams/s/messages/a.b", sequintest.GetMessage},
			{"GET", "/api/streams/s/messages/a%2Fb", sequintest.GetMessage},
			{"GET", "/api/streams/s/messages/a.b/consumer_info", sequintest.MessageInfo},
			{"POST", "/api/streams/s/consumers", sequintest.CreateConsumer},
			{"GET", "/api/streams/s/consumers", sequintest.ListConsumers},
			{"GET", "/api/streams/s/consumers/c", sequintest.GetConsumer},
			{"PUT", "/api/streams/s/consumers/c", sequintest.UpdateConsumer},
			{"PATCH", "/api/streams/s/consumers/c", sequintest.UpdateConsumer},
			{"DELETE", "/api/streams/s/consumers/c", sequintest.DeleteConsumer},
			{"GET", "/api/streams/s/consumers/c/messages", sequintest.PeekMessages},
			{"GET", "/api/streams/s/consumers/c/receive", sequintest.Receive},
			{"POST", "/api/streams/s/consumers/c/receive", sequintest.Receive},
			{"POST", "/api/streams/s/consumers/c/ack", sequintest.Ack},
			{"POST", "/api/streams/s/consumers/c/nack", sequintest.Nack},
			{"GET", "/api/streams/s/consumers/c/ack", sequintest.Other},
			{"GET", "/", sequintest.Other},
			{"GET", "/streams", sequintest.Other},
		} {
			before := srv.Count(c.want)
			_, _, err := dial(srv).do(c.method, c.path, "")
			require.NoError(t, err)
			all := srv.Requests()
			last := all[len(all)-1]
			require.Equal(t, c.want, last.Op, "%s %s", c.method, c.path)
			require.Equal(t, c.method+" "+c.path, last.Method+" "+last.Path)
			require.Equal(t, before+1, srv.Count(c.want))
			require.Equal(t, len(all), srv.Count(sequintest.Any))
		}
		require.Zero(t, srv.Count(sequintest.Op(99)))
		require.Equal(t, "unknown", sequintest.Op(99).String())
	})
}

func TestRequestsReturnsWhatArrivedAndWhatWasAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		begin := time.Now()
		a := dial(srv)
		time.Sleep(time.Second)
		a.send(t, "a.1", "a.2")
		a.must(t, "POST", receivePath, `{"batch_size":10}`)
		a.must(t, "POST", ackPath, someIDs)

		sent := srv.Requests(sequintest.Send)
		require.Len(t, sent, 1)
		require.Equal(t, []sequintest.Message{{Key: "a.1", Data: "{}"}, {Key: "a.2", Data: "{}"}}, sent[0].Messages())
		require.Equal(t, begin.Add(time.Second), sent[0].At)
		require.Equal(t, 200, sent[0].Status)
		require.NotEmpty(t, sent[0].Header.Get("User-Agent"))
		require.Nil(t, sent[0].AckIDs())
		require.Nil(t, sent[0].Deliveries())

		received := srv.Requests(sequintest.Receive)[0]
		deliveries := received.Deliveries()
		require.Len(t, deliveries, 2)
		require.Equal(t, "a.1", deliveries[0].Key)
		require.Equal(t, "{}", deliveries[0].Data)
		require.Equal(t, 1, deliveries[0].DeliverCount)
		require.NotEmpty(t, deliveries[0].AckID)
		require.NotZero(t, deliveries[0].Seq)
		require.Nil(t, received.Messages())

		require.Equal(t, []string{"00000000-0000-4000-8000-000000000001"}, srv.Requests(sequintest.Ack)[0].AckIDs())
		require.Len(t, srv.Requests(sequintest.Ack, sequintest.Send), 2)
		require.Equal(t, srv.Requests(), srv.Requests(sequintest.Any))
		require.Equal(t, []string{"orders"}, srv.Streams())
	})
}

func TestActedAtIsWhenTheServerWasDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		dial(srv).must(t, "POST", receivePath, `{"wait_for":"2s"}`)
		srv.Fault(sequintest.Fault{Op: sequintest.Ack, Delay: 3 * time.Second, Count: 1})
		dial(srv).must(t, "POST", ackPath, someIDs)
		srv.Fault(sequintest.Fault{Op: sequintest.Ack, DelayAfter: 4 * time.Second, Count: 1})
		dial(srv).must(t, "POST", ackPath, someIDs)
		srv.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 503, Count: 1})
		_, _, err := dial(srv).do("POST", ackPath, someIDs)
		require.NoError(t, err)
		synctest.Wait()

		var took []time.Duration
		for _, r := range srv.Requests(sequintest.Receive, sequintest.Ack)[:3] {
			took = append(took, r.ActedAt.Sub(r.At))
		}
		require.Equal(t, []time.Duration{2 * time.Second, 3 * time.Second, 0}, took)
		require.Zero(t, srv.Requests(sequintest.Ack)[2].ActedAt)
	})
}

func TestRequestsReturnsCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		dial(srv).send(t, "a")
		first := srv.Requests(sequintest.Send)
		clear(first[0].Body)
		clear(first[0].Answer)
		clear(first[0].Header)
		second := srv.Requests(sequintest.Send)
		require.Len(t, second[0].Messages(), 1)
		require.Contains(t, string(second[0].Answer), "published")
		require.NotEmpty(t, second[0].Header)
	})
}

func TestRequestsReturnsRunningRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		polling := poll(t, srv, dial(srv))
		seen := srv.Requests(sequintest.Receive)
		require.Len(t, seen, 1)
		require.Zero(t, seen[0].Status)
		srv.Close()
		require.NoError(t, <-polling)
		require.NotZero(t, srv.Requests(sequintest.Receive)[0].Status)
	})
}

func TestKeepRequestsLimitsTheJournal(t *testing.T) {
	for _, c := range []struct{ keep, want int }{{0, 1000}, {5, 5}, {-1, 0}} {
		synctest.Test(t, func(t *testing.T) {
			srv := sequintest.NewServer(t, sequintest.Config{KeepRequests: c.keep})
			a := dial(srv)
			for i := range 1010 {
				_, _, err := a.do("GET", fmt.Sprintf("/api/streams/s%d", i), "")
				require.NoError(t, err)
			}
			kept := srv.Requests()
			require.Len(t, kept, c.want)
			for i, r := range kept {
				require.Equal(t, fmt.Sprintf("/api/streams/s%d", 1010-c.want+i), r.Path)
			}
			require.Equal(t, 1010, srv.Count(sequintest.GetStream))
		})
	}
}

func TestTheJournalIsLimitedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, sequintest.Config{})
		a := dial(srv)
		body := strings.Repeat(" ", 7<<20)
		for range 6 {
			_, _, err := a.do("POST", "/nowhere", body)
			require.NoError(t, err)
		}
		require.Len(t, srv.Requests(), 4, "4 × 7 MiB and their answers fit into 32 MiB")
	})
}

func TestATooLargeBodyIsRefusedAndRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		status, _, err := dial(srv).do("POST", sendPath, `{"messages":[{"key":"a","data":"`+strings.Repeat("x", 8_000_000)+`"}]}`)
		if err == nil { // the early close may reset the connection and lose the answer, as over TCP
			require.Equal(t, http.StatusRequestEntityTooLarge, status)
		}
		require.Len(t, srv.Requests(sequintest.Send)[0].Body, 8_000_001)
		require.Equal(t, http.StatusRequestEntityTooLarge, srv.Requests(sequintest.Send)[0].Status)
	})
}
