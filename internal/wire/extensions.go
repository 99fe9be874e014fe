package wire

import (
	"net/http"
	"strings"
)

// Extensions are additions to the documented API that a server announces, one bit each.
type Extensions uint32

// The extensions that the client uses.
const (
	FencedAcks Extensions = 1 << iota // an ack id belongs to one delivery, so that a repeated ack cannot settle another one
	Parts                             // the server knows Sequin-Part-Of
	NackDelay                         // the server keeps nacked messages back
	Extend                            // leases can be extended
	Attempts                          // deliveries are counted, without those that were returned undelivered
	Paging                            // lists read bounds of seqs
	Bare                              // a receive can leave out what a Subscriber does not use
	Purge                             // messages of a stream can be removed
	Start                             // a new consumer may start elsewhere than at the beginning
	Headers                           // messages have headers
	EndReceive                        // a receive that waits can be ended
)

// extensionNames are the names of the extensions in the header, in the order of their bits.
var extensionNames = [...]string{"fenced-acks", "parts", "nack-delay", "extend", "attempts", "paging", "bare", "purge", "start", "headers", "end-receive"}

// Has reports whether e has an extension.
func (e Extensions) Has(one Extensions) bool { return e&one != 0 }

// String returns the names of the extensions with commas between them.
func (e Extensions) String() string {
	var names []string
	for i, name := range extensionNames {
		if e.Has(1 << i) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// AnnouncedBy returns the extensions that the header of an answer lists, and whether it has a list. Unknown names are ignored.
func AnnouncedBy(h http.Header) (e Extensions, listed bool) {
	lists := h["Sequin-Extensions"]
	for _, list := range lists {
		for text := range strings.SplitSeq(list, ",") {
			for i, name := range extensionNames {
				if strings.TrimSpace(text) == name {
					e |= 1 << i
				}
			}
		}
	}
	return e, len(lists) > 0
}
