package framing

import "errors"

// Every error of a Framer wraps one of these. Compare them with errors.Is.
var (
	// ErrTooLarge is a frame above the message limit: its header declares a larger
	// size, or it has grown beyond the limit without an end.
	ErrTooLarge = errors.New("framing: message too large")

	// ErrMalformed is a frame that violates its format.
	ErrMalformed = errors.New("framing: malformed frame")

	// ErrUnencodable is a message that the framing can't carry.
	ErrUnencodable = errors.New("framing: message can't be encoded")

	// ErrConfig is a framer with invalid settings.
	ErrConfig = errors.New("framing: invalid setting")
)
