package fleetsim

import (
	"fmt"
	"net/http"
)

// Refusal is the cloud's no. Over MQTT it becomes the payload of a rejected topic where there is
// one, over HTTP a problem document, in Go an error.
type Refusal struct {
	Status  int    // HTTP status
	Code    string // code of a jobs rejection
	Message string
	State   *ExecutionState // of the execution as it is, for VersionMismatch and TerminalStateReached
}

func (r *Refusal) Error() string { return r.Message }

func notFound(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusNotFound, Code: "ResourceNotFound", Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusUnprocessableEntity, Code: "InvalidRequest", Message: fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusConflict, Code: "VersionMismatch", Message: fmt.Sprintf(format, args...)}
}
