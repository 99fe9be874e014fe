package sim

// check is one promise, and the function that returns its violations.
type check struct {
	promise string
	check   func(*history) []violation
}

// checks is ordered by importance: the first violation of a run is the one that is reduced to a short schedule.
var checks = []check{
	{"every accepted message has exactly one outcome, reported once", oneOutcome},
	{"a message reported as sent is stored", sentIsStored},
	{"a message fails only if it or the stream is refused, or its Publisher got nothing through for RetryFor", onlyGuiltyFail},
	{"a Publisher has sent in the end what can be sent", sentInTheEnd},
	{"a message that was not accepted is not sent", refusedIsNotSent},
	{"a Publisher's totals add up", totalsAddUp},
	{"a sent message stays in the stream, or a newer one of its key", storedIsKept},
	{"headers are stored as sent, or the message fails where the server has none", headersKept},
	{"a purged message is gone, and is not delivered", purgedIsGone},
	{"a message whose success was received is not sent again", confirmedNotRepeated},
	{"a message is stored once where the server knows parts of sends", storedOnce},
	{"for each consumer, a program received and acked every message in the stream", deliveredToAll},
	{"an acked message is not delivered again", ackedStaysAcked},
	{"a program receives what was sent", intact},
	{"deliveries are counted, without those that were returned undelivered", attemptsCounted},
	{"a program receives no message after its deadline, which is before the end of the server's lease", receivedInTime},
	{"every settle has a program's settle, or an undelivered message, as its reason, before the deadline", settledInTime},
	{"a settle that may have been carried out is not repeated", settledOnce},
	{"a settle affects no message that another worker holds", settlesOwnMessages},
	{"versions of a key are stored in the order of their sends", storedInOrder},
	{"versions of a key are received in order", receivedInOrder},
	{"a sink delivers the changes of a row one after the other", rowsInTurn},
	{"a batch is within its limits", batchesWithinLimits},
	{"MaxInFlight is never exceeded", inFlightBounded},
	{"MaxBuffered is never exceeded", bufferedBounded},
	{"a stopped Subscriber returns its undelivered messages", stopsReturnUndelivered},
	{"a Subscriber ends by itself only after Sequin's own refusals", endsForAReason},
	{"Close returns an error when it left a delivery unsettled", leavingIsTold},
	{"InFlight is zero when every lease is over", inFlightReturnsToZero},
	{"the request rate is bounded while the server is down", rateBounded},
	{"an idle Subscriber of a sink asks at most 20 times a second", idleSinksAskSeldom},
}
