package server

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sequin-go/sequin/server/internal/store"
)

// The names of the extensions, as the Sequin-Extensions header lists them.
const (
	// fencedAcks says that an ack id belongs to one delivery. The ack ids of the documented mode always do, but without
	// the extension the server does not say so.
	fencedAcks = "fenced-acks"
	// parts says that Sequin-Part-Of headers are read.
	parts = "parts"
	// nackDelay says that delay_ms of a nack is read.
	nackDelay = "nack-delay"
	// extendLeases says that the route extend exists.
	extendLeases = "extend"
	// attempts says that deliveries have deliver_count and expired_count, and that "undelivered" of a nack is read.
	attempts = "attempts"
	// paging says that lists read after_seq and before_seq.
	paging = "paging"
	// bareReceives says that bare of a receive is read.
	bareReceives = "bare"
	// starts says that start_from of a new consumer is read.
	starts = "start"
	// purging says that the route purge exists.
	purging = "purge"
	// messageHeaders says that headers of messages are read and kept.
	messageHeaders = "headers"
	// endingReceives says that the route end_receive exists.
	endingReceives = "end-receive"
)

// allExtensions are the extensions of the documented mode, in the order of the header.
var allExtensions = []string{fencedAcks, parts, nackDelay, extendLeases, attempts, paging, bareReceives, purging, starts, messageHeaders, endingReceives}

// Extensions returns the names of the extensions that the documented mode has: what Config.WithoutExtensions may hold.
func Extensions() []string { return slices.Clone(allExtensions) }

// extensionsWithout returns the extensions of the dialect except those that are switched off, and those that the store does not
// have; nil is a store in memory. It panics on an unknown name.
func (d *dialect) extensionsWithout(off []string, st store.Store) []string {
	for _, name := range off {
		if !slices.Contains(allExtensions, name) {
			panic(fmt.Sprintf("server: Config.WithoutExtensions has %q; the extensions are %s", name, strings.Join(allExtensions, ", ")))
		}
	}
	if _, extended := st.(store.Extended); st != nil && !extended {
		off = append(slices.Clone(off), purging, starts)
	}
	if _, keeps := st.(store.KeepsHeaders); st != nil && !keeps {
		off = append(slices.Clone(off), messageHeaders)
	}
	return slices.DeleteFunc(slices.Clone(d.extensions), func(name string) bool { return slices.Contains(off, name) })
}

// announce adds the Sequin-Extensions header to every answer of the streams API, errors included, so that a client learns
// from its first answer what it may use.
func (c *call) announce() {
	if len(c.srv.announced) > 0 && !c.srv.sinksOnly && belowStreams(c.r.URL.Path) {
		c.w.Header()["Sequin-Extensions"] = c.srv.announced
	}
}

// belowStreams reports whether a path is /api/streams or below it. Like the routes it ignores empty elements.
func belowStreams(path string) bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(path, "/"), "api/")
	if !ok {
		return false
	}
	rest, ok = strings.CutPrefix(strings.TrimLeft(rest, "/"), "streams")
	return ok && (rest == "" || rest[0] == '/')
}
