package durable

import (
	"encoding/binary"

	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// An ack id is a UUID of version 4 whose other 122 bits say what it belongs to, so that a delivery is found after a restart,
// and even when the record of its lease was lost:
//
//	seq      48  of the message
//	receive  40  the number of the receive in its opening
//	opening  14  of the store, its lowest bits
//	salt     20  of the consumer, so that the id of another consumer is refused

const (
	receiveBits = 40
	openingBits = 14
	saltBits    = 20
)

// saltOf makes the salt of a consumer from its id.
func saltOf(consumer string) uint32 {
	h := hashOf(consumer)
	return binary.LittleEndian.Uint32(h[:]) & (1<<saltBits - 1)
}

// ackID returns the ack id of a delivery.
func ackID(salt uint32, d backlog.Delivery) (id store.ID) {
	// The bits from the left: seq (48), version (4), the upper 12 of receive; variant (2), the lower 28 of receive, opening,
	// salt.
	high := uint64(d.Seq)<<16 | 4<<12 | d.Lease.Receive>>28&0xfff
	low := uint64(2)<<62 | (d.Lease.Receive&(1<<28-1))<<34 | d.Lease.Opening&(1<<openingBits-1)<<saltBits | uint64(salt)
	binary.BigEndian.PutUint64(id[:8], high)
	binary.BigEndian.PutUint64(id[8:], low)
	return id
}

// delivery returns what an ack id belongs to; ok is false for an id of another consumer. opening is that of the store: the
// id's is the newest one that is not above it.
func delivery(salt uint32, id store.ID, opening uint64) (d backlog.Delivery, ok bool) {
	high, low := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	if uint32(low)&(1<<saltBits-1) != salt {
		return d, false
	}
	d.Seq = int64(high >> 16)
	d.Lease.Receive = high&0xfff<<28 | low>>34&(1<<28-1)
	age := (opening - low>>saltBits) & (1<<openingBits - 1)
	d.Lease.Opening = opening - age
	return d, age < opening
}
