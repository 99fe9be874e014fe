package seglog

import "fmt"

// Pos is the position of a record: the number of its segment in the upper 32 bits, its offset there in the lower. Positions
// are ordered as the records are. They are never used twice within an opening. The zero Pos is before all records.
type Pos uint64

func position(segment uint32, offset int64) Pos { return Pos(segment)<<32 | Pos(uint32(offset)) }

// Segment returns the number of the segment.
func (p Pos) Segment() uint32 { return uint32(p >> 32) }

// Offset returns the offset in the segment's file.
func (p Pos) Offset() int64 { return int64(uint32(p)) }

func (p Pos) String() string { return fmt.Sprintf("%d:%d", p.Segment(), p.Offset()) }
