// Package ring is the queue between the goroutines that receive messages and the one thread that
// handles them: a bounded byte ring with many writers and one reader, and a parker on which the
// reader sleeps.
//
// [Ring] follows the many-to-one ring buffer of Agrona (github.com/real-logic/agrona,
// ManyToOneRingBuffer): a producer claims space by moving the tail with a compare-and-swap, fills
// it in place, and commits by storing the length into the record's header; the consumer reads
// records in place and zeroes them afterwards. It differs from the model in four ways: length and
// kind share one 64-bit header that is stored at once; a negative length marks padding, so all
// kinds are the user's; the unused part of a claim can be returned; and space is released once a
// batch, not once a record.
//
// [Parker] is separate from the ring, so that a consumer may also wait for events that don't use
// the ring. The consumer's loop is:
//
//	for {
//		for n := 0; n < budget; n++ {
//			kind, payload, ok := r.Next()
//			if !ok {
//				break
//			}
//			handle(kind, payload)
//		}
//		r.Release()
//		if r.Ready() {
//			continue
//		}
//		p.Arm()
//		if r.Ready() {
//			p.Disarm()
//		} else {
//			p.Park()
//		}
//	}
//
// and a producer's is: Claim, fill, Commit (or CommitPart), Wake.
package ring
