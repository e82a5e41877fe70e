package loop

import (
	"log/slog"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
)

// Env is what every controller is given. All fields are required.
type Env struct {
	Client    kubernetes.Interface
	Informers informers.SharedInformerFactory // started by its owner after the controllers were made
	Recorder  func(component string) record.EventRecorder
	Log       *slog.Logger
	Now       func() time.Time
}
