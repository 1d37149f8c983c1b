package framing

import "errors"

// Errors that every Framer's errors wrap. Tell them apart with errors.Is.
var (
	// ErrTooLarge is a frame above the message limit, as declared by its
	// header or as grown without an end.
	ErrTooLarge = errors.New("framing: message too large")

	// ErrMalformed is a frame that breaks its format.
	ErrMalformed = errors.New("framing: malformed frame")

	// ErrUnencodable is a message that the framing can't carry.
	ErrUnencodable = errors.New("framing: message can't be encoded")

	// ErrConfig is a framer whose settings make no framing.
	ErrConfig = errors.New("framing: invalid setting")
)
