package console

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

// messagePage shows a message and its state at each consumer.
type messagePage struct {
	messageRow
	Stream   string
	First    moment // when its key was sent first
	Size     string
	Data     string // pretty-printed
	Cut      string // how much of it is shown, if not all
	DataURL  string // all of it, as it is
	Headers  []fact
	NewerURL string // of a later message of the key; "" for none
	States   []stateRow
}

// stateRow is the state of a message at a consumer.
type stateRow struct {
	Consumer, URL, Filter string
	State, Why            string
	Deliveries            int
}

// shownData is how much of the data a page shows. More makes a browser slow, and nobody reads it.
const shownData = 64 << 10

func showMessage(v *visit) (*page, error) {
	m, states, newest, err := v.findMessage()
	if err != nil {
		return nil, err
	}
	stream := v.r.PathValue("stream")
	p := &messagePage{
		messageRow: v.messageRow(stream, m), Stream: stream, First: ago(v.now, m.InsertedAt), Size: cli.Bytes(int64(len(m.Data))), States: states,
		DataURL: href(messageQuery(m.Key, m.Seq), "streams", stream, "data"),
	}
	if newest != m.Seq {
		p.NewerURL = messageURL(stream, m.Key, newest)
	}
	data := m.Data
	if len(data) <= shownData {
		data = overview.Pretty(data)
	} else {
		data = strings.ToValidUTF8(data[:shownData], "") // without the half of a character
		p.Cut = fmt.Sprintf("These are the first %s of %s.", cli.Bytes(shownData), p.Size)
	}
	p.Data = overview.Visible(data, true)
	for _, name := range sortedNames(m.Headers) {
		p.Headers = append(p.Headers, fact{name, overview.Visible(m.Headers[name], false)})
	}
	return &page{title: m.Key, name: "message", data: p, live: true, crumbs: []crumb{{"Streams", home}, {stream, streamURL(stream)}}}, nil
}

// findMessage finds the message that the URL names, its states, and the seq of the newest message of its key.
//
// The API finds the newest message of a key. A stream that appends may have others. They are found in lists that are bounded by
// their seq.
func (v *visit) findMessage() (m *sequin.StoredMessage, states []stateRow, newest int64, err error) {
	stream, query := v.r.PathValue("stream"), v.r.URL.Query()
	info, err := v.watch.Message(v.r.Context(), stream, query.Get("key"))
	if errors.Is(err, sequin.ErrInvalidKey) {
		err = errNoPage
	}
	if err != nil {
		return nil, nil, 0, err
	}
	if seq, _ := strconv.ParseInt(query.Get("seq"), 10, 64); seq > 0 && seq < info.Message.Seq {
		m, states, err = v.olderMessage(stream, info, seq)
		return m, states, info.Message.Seq, err
	}
	for _, c := range info.Consumers {
		states = append(states, v.stateRow(stream, c.ConsumerName, c.ConsumerFilter, &c.DeliveryInfo))
	}
	return &info.Message, states, info.Message.Seq, nil
}

// olderMessage finds a message that is not the newest of its key, and its states.
func (v *visit) olderMessage(stream string, newest *sequin.MessageInfo, seq int64) (m *sequin.StoredMessage, states []stateRow, err error) {
	only := sequin.ListOptions{Limit: 1, KeyPattern: newest.Message.Key, AfterSeq: seq - 1, BeforeSeq: seq + 1}
	older, err := v.client.ListMessages(v.r.Context(), stream, only)
	if err != nil && !errors.Is(err, sequin.ErrUnsupported) { // a server that cannot tell has one message of each key
		return nil, nil, err
	}
	if len(older) == 0 {
		return nil, nil, &problem{http.StatusNotFound, "This message is gone", "It was replaced, purged, or dropped by the limits of the stream. " +
			"The newest message of its key has the seq " + overview.Number(newest.Message.Seq) + "."}
	}
	for _, c := range newest.Consumers {
		peeked, err := v.client.PeekMessages(v.r.Context(), stream, c.ConsumerName, only)
		if err != nil {
			return nil, nil, err
		}
		state := sequin.DeliveryInfo{State: sequin.StateAcked}
		if len(peeked) > 0 {
			state = peeked[0].Info
		}
		states = append(states, v.stateRow(stream, c.ConsumerName, c.ConsumerFilter, &state))
	}
	return &older[0], states, nil
}

func (v *visit) stateRow(stream, consumer, filter string, i *sequin.DeliveryInfo) stateRow {
	row := stateRow{Consumer: consumer, URL: consumerURL(stream, consumer), Filter: filter, State: stateWord(i.State), Deliveries: i.DeliverCount, Why: v.reason(i)}
	if i.State == sequin.StateAcked && i.DeliverCount == 0 {
		row.Why = "settled, or before the start of the consumer"
	}
	return row
}

// sendData sends the data of a message as a file. It is never shown as a page: it may be HTML.
func sendData(v *visit) error {
	m, _, _, err := v.findMessage()
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	v.w.Header().Set("Content-Security-Policy", "sandbox; default-src 'none'")
	v.w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="message-%d.txt"`, m.Seq))
	_, _ = v.w.Write([]byte(m.Data)) // an error means that the browser is gone
	return nil
}
