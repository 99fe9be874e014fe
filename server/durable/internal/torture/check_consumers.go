package torture

import (
	"fmt"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

func (c *check) checkConsumer(stream, name string) {
	found, known := c.found[stream], c.a.consumers[stream+"/"+name]
	for _, m := range found.messages {
		r := known.message(m)
		view, unsettled := found.unsettled[name][m]
		exhausted := known.limited && r.got+known.doubts >= maxDeliver
		label := fmt.Sprintf("%s/%s: message %v", stream, name, m)
		switch {
		case unsettled && c.must(&r.ack):
			c.a.fault("%s was acked, and is unsettled again", label)
		case !unsettled && (r.ack.asked == 0 || r.ack.impossible()) && !exhausted:
			c.a.fault("%s was never acked, and is settled", label)
		}
		if unsettled {
			c.checkView(known, r, view, label)
		}
	}
	for m := range found.unsettled[name] {
		if !found.present[m] {
			c.a.fault("%s/%s: message %v is not in the stream", stream, name, m)
		}
	}
}

func (c *check) checkView(known *consumer, r *received, v store.View, label string) {
	if v.State == store.Withheld || v.Count == store.NoCount || known.stream == keysStream && v.State == store.Delivered {
		return // it shows the count of another version, or none
	}
	if most := r.got + known.doubts; v.Count > most {
		c.a.fault("%s counts %d deliveries; there were at most %d", label, v.Count, most)
	}
	if least := r.got - r.returned; !known.lost && v.Count < least {
		c.a.fault("%s counts %d deliveries; there were at least %d", label, v.Count, least)
	}
	if len(r.out) > 0 && !known.lost && v.State != store.Delivered {
		c.a.fault("%s was on lease, and is %v", label, v.State)
	}
	if h := &r.hidden; c.must(&h.operation) && time.Now().Before(h.until) && r.ack.asked == 0 &&
		(v.State != h.state || v.NotVisibleUntil < h.until.UnixMicro()) {
		c.a.fault("%s is %v until %v, and was to be %v until %v", label, v.State, time.UnixMicro(v.NotVisibleUntil), h.state, h.until)
	}
	if v.State == store.Delivered && r.got == 0 && known.doubts == 0 {
		c.a.fault("%s is on lease, and was never received", label)
	}
}
