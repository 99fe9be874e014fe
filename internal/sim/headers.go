package sim

import (
	"errors"
	"maps"
	"strings"

	"github.com/sequin-go/sequin"
)

// headersOf returns the headers of a message of a step with Headers. They follow from its id.
func headersOf(id string) map[string]string {
	return map[string]string{"id": id, "escaped": "\"é\n", "pad": strings.Repeat("h", len(id)*7%90)}
}

// headersKept requires that a message with headers is stored with them where the server has headers, and that it fails with
// ErrUnsupported anywhere else. What programs receive is a promise of its own.
func headersKept(h *history) (found []violation) {
	has := h.rec.s.has(headers)
	for _, m := range h.rec.messages {
		for _, o := range m.outcomes {
			unsupported := errors.Is(o.err, sequin.ErrUnsupported)
			if unsupported && (has || m.headers == nil) || o.kind == sent && m.headers != nil && !has {
				found = append(found, violationOf("", m.key, "%s with the headers %v is %v, reported by %s: %v", m.id, m.headers, o.kind, o.by, o.err).when(o.at))
			}
		}
	}
	for _, s := range h.stored {
		for _, m := range s.messages {
			x := h.bySent[sentRef{s.publisher, idOf(m.Data)}]
			if x != nil && (!maps.Equal(x.headers, m.Headers) || x.headers != nil && !has) {
				found = append(found, violationOf("", m.Key, "%s sent %s with the headers %v instead of %v", s.publisher, x.id, m.Headers, x.headers).when(s.at))
			}
		}
	}
	sent := map[string]map[string]string{}
	for _, m := range h.rec.messages {
		sent[m.id] = m.headers
	}
	for _, m := range h.rec.final.Messages {
		if id := idOf(m.Data); !h.rec.s.Sinks && !maps.Equal(sent[id], m.Headers) {
			found = append(found, violationOf("", m.Key, "the stream has %s (seq %d) with the headers %v instead of %v", id, m.Seq, m.Headers, sent[id]))
		}
	}
	return found
}

// lacksHeaders reports whether a message may fail, because it has headers and the server has none.
func (h *history) lacksHeaders(m *message, err error) bool {
	return m.headers != nil && !h.rec.s.has(headers) && errors.Is(err, sequin.ErrUnsupported)
}
