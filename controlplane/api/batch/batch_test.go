package batch

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"coracle/controlplane/api/expect"
)

func podTemplate() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "i:1"}}}}
}

func job(change ...func(*batchv1.Job)) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "ns", UID: "u", ResourceVersion: "1"}, Spec: batchv1.JobSpec{Template: podTemplate()}}
	for _, c := range change {
		c(j)
	}
	defaultJob(j)
	GenerateSelector(j)
	return j
}

func indexedJob(completions int32, change ...func(*batchv1.Job)) *batchv1.Job {
	return job(append([]func(*batchv1.Job){func(j *batchv1.Job) {
		j.Spec.CompletionMode, j.Spec.Completions, j.Spec.Parallelism = ptr.To(batchv1.IndexedCompletion), &completions, ptr.To(int32(1))
	}}, change...)...)
}

func TestJob(t *testing.T) {
	const labels = "spec.template.metadata.labels"
	for name, tc := range map[string]struct {
		j    *batchv1.Job
		want []string
	}{
		"sound":         {job(), nil},
		"sound indexed": {indexedJob(3), nil},
		"name":          {job(func(j *batchv1.Job) { j.Name = "A" }), []string{"Invalid metadata.name"}},
		"numbers": {job(func(j *batchv1.Job) {
			n := ptr.To(int32(-1))
			j.Spec.Parallelism, j.Spec.Completions, j.Spec.BackoffLimit, j.Spec.TTLSecondsAfterFinished, j.Spec.ActiveDeadlineSeconds = n, n, n, n, ptr.To(int64(-1))
		}), []string{"Invalid spec.parallelism", "Invalid spec.completions", "Invalid spec.backoffLimit", "Invalid spec.ttlSecondsAfterFinished", "Invalid spec.activeDeadlineSeconds"}},
		"restart always": {job(func(j *batchv1.Job) { j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyAlways }), []string{"Required spec.template.spec.restartPolicy"}},
		"restart oddly":  {job(func(j *batchv1.Job) { j.Spec.Template.Spec.RestartPolicy = "x" }), []string{"NotSupported spec.template.spec.restartPolicy", "NotSupported spec.template.spec.restartPolicy"}},
		"someone else's label": {job(func(j *batchv1.Job) {
			j.Spec.Template.Labels = map[string]string{batchv1.JobNameLabel: "other"}
		}), []string{"Invalid " + labels + "[" + batchv1.JobNameLabel + "]"}},
		"own selector": {job(func(j *batchv1.Job) {
			j.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}
		}), []string{"Invalid spec.selector", "Invalid " + labels}},
		"manual selector": {job(func(j *batchv1.Job) {
			j.Spec.ManualSelector, j.Spec.Selector = ptr.To(true), &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}
			j.Spec.Template.Labels = map[string]string{"app": "x"}
		}), nil},
		"manual without selector": {job(func(j *batchv1.Job) { j.Spec.ManualSelector = ptr.To(true) }), []string{"Required spec.selector"}},
		"mode":                    {job(func(j *batchv1.Job) { j.Spec.CompletionMode = ptr.To(batchv1.CompletionMode("x")) }), []string{"NotSupported spec.completionMode"}},
		"indexed without number": {job(func(j *batchv1.Job) {
			j.Spec.CompletionMode, j.Spec.Parallelism = ptr.To(batchv1.IndexedCompletion), ptr.To(int32(1))
		}), []string{"Required spec.completions"}},
		"indexed with a long name": {indexedJob(100, func(j *batchv1.Job) { j.Name = strings.Repeat("x", 62) }), []string{"Invalid metadata.name"}},
		"per index without index": {job(func(j *batchv1.Job) {
			j.Spec.BackoffLimitPerIndex, j.Spec.MaxFailedIndexes = ptr.To(int32(1)), ptr.To(int32(1))
		}), []string{"Invalid spec.backoffLimitPerIndex", "Invalid spec.maxFailedIndexes"}},
		"failed indexes": {indexedJob(3, func(j *batchv1.Job) { j.Spec.MaxFailedIndexes = ptr.To(int32(4)) }),
			[]string{"Required spec.backoffLimitPerIndex", "Invalid spec.maxFailedIndexes"}},
		"very many": {indexedJob(200_000, func(j *batchv1.Job) {
			j.Spec.Parallelism, j.Spec.BackoffLimitPerIndex = ptr.To(int32(100_001)), ptr.To(int32(1))
		}), []string{"Invalid spec.parallelism", "Invalid spec.parallelism", "Required spec.maxFailedIndexes"}},
		"managed by nobody": {job(func(j *batchv1.Job) { j.Spec.ManagedBy = ptr.To("me") }), []string{"Invalid spec.managedBy"}},
		"replacement":       {job(func(j *batchv1.Job) { j.Spec.PodReplacementPolicy = ptr.To(batchv1.PodReplacementPolicy("x")) }), []string{"NotSupported spec.podReplacementPolicy"}},
		"success without index": {job(func(j *batchv1.Job) {
			j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededCount: ptr.To(int32(1))}}}
		}), []string{"Invalid spec.successPolicy"}},
		"success": {indexedJob(3, func(j *batchv1.Job) {
			j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{
				{SucceededCount: ptr.To(int32(1)), SucceededIndexes: ptr.To("0-1")}, {}, {SucceededCount: ptr.To(int32(4))},
				{SucceededIndexes: ptr.To("0-3")}, {SucceededCount: ptr.To(int32(2)), SucceededIndexes: ptr.To("0")},
			}}
		}), []string{"Required spec.successPolicy.rules[1]", "Invalid spec.successPolicy.rules[2].succeededCount",
			"Invalid spec.successPolicy.rules[3].succeededIndexes", "Invalid spec.successPolicy.rules[4].succeededCount"}},
	} {
		t.Run(name, func(t *testing.T) { expect.Errors(t, ValidateJob(tc.j), tc.want...) })
	}
}

func TestFailurePolicy(t *testing.T) {
	exit := func(op batchv1.PodFailurePolicyOnExitCodesOperator, values ...int32) *batchv1.PodFailurePolicyOnExitCodesRequirement {
		return &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: op, Values: values}
	}
	const in = batchv1.PodFailurePolicyOnExitCodesOpIn
	foreign := exit(in, 1)
	foreign.ContainerName = ptr.To("other")
	condition := []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}
	for name, tc := range map[string]struct {
		rule batchv1.PodFailurePolicyRule
		want []string
	}{
		"sound":      {batchv1.PodFailurePolicyRule{Action: "FailJob", OnExitCodes: exit(in, 1, 2)}, nil},
		"condition":  {batchv1.PodFailurePolicyRule{Action: "Ignore", OnPodConditions: condition}, nil},
		"empty":      {batchv1.PodFailurePolicyRule{}, []string{"Required .action", "Invalid "}},
		"both":       {batchv1.PodFailurePolicyRule{Action: "Count", OnExitCodes: exit(in, 1), OnPodConditions: condition}, []string{"Invalid "}},
		"action":     {batchv1.PodFailurePolicyRule{Action: "x", OnExitCodes: exit(in, 1)}, []string{"NotSupported .action"}},
		"fail index": {batchv1.PodFailurePolicyRule{Action: "FailIndex", OnExitCodes: exit(in, 1)}, []string{"Invalid .action"}},
		"codes":      {batchv1.PodFailurePolicyRule{Action: "Count", OnExitCodes: exit(in, 2, 0, 2)}, []string{"Invalid .onExitCodes.values", "Invalid .onExitCodes.values[1]", "Duplicate .onExitCodes.values[2]"}},
		"no codes":   {batchv1.PodFailurePolicyRule{Action: "Count", OnExitCodes: exit("x")}, []string{"NotSupported .onExitCodes.operator", "Invalid .onExitCodes.values"}},
		"container":  {batchv1.PodFailurePolicyRule{Action: "Count", OnExitCodes: foreign}, []string{"Invalid .onExitCodes.containerName"}},
		"pattern": {batchv1.PodFailurePolicyRule{Action: "Count", OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: "a b", Status: "x"}, {Type: "a"}}},
			[]string{"Invalid .onPodConditions[0].type", "NotSupported .onPodConditions[0].status", "Required .onPodConditions[1].status"}},
	} {
		t.Run(name, func(t *testing.T) {
			j := job(func(j *batchv1.Job) { j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{} })
			j.Spec.PodFailurePolicy.Rules = []batchv1.PodFailurePolicyRule{tc.rule}
			var want []string
			for _, w := range tc.want {
				kind, path, _ := strings.Cut(w, " ")
				want = append(want, kind+" spec.podFailurePolicy.rules[0]"+path)
			}
			expect.Errors(t, ValidateJob(j), want...)
		})
	}
	j := job(func(j *batchv1.Job) {
		j.Spec.PodFailurePolicy, j.Spec.Template.Spec.RestartPolicy = &batchv1.PodFailurePolicy{}, corev1.RestartPolicyOnFailure
		j.Spec.PodReplacementPolicy = ptr.To(batchv1.TerminatingOrFailed)
	})
	expect.Errors(t, ValidateJob(j), "Invalid spec.template.spec.restartPolicy", "NotSupported spec.podReplacementPolicy")
}

func TestJobUpdate(t *testing.T) {
	change := func(old *batchv1.Job, f func(*batchv1.Job)) *batchv1.Job {
		j := old.DeepCopy()
		f(j)
		return j
	}
	old := job()
	expect.Errors(t, ValidateJobUpdate(change(old, func(j *batchv1.Job) { j.Spec.Parallelism, j.Spec.Suspend = ptr.To(int32(3)), ptr.To(true) }), old))
	expect.Errors(t, ValidateJobUpdate(change(old, func(j *batchv1.Job) {
		j.Spec.Completions, j.Spec.Template.Spec.Containers[0].Image, j.Spec.ManagedBy = ptr.To(int32(2)), "i:2", ptr.To("example.com/x")
	}), old), "Invalid spec.completions", "Invalid spec.template", "Invalid spec.managedBy")
	grown := indexedJob(2)
	expect.Errors(t, ValidateJobUpdate(change(grown, func(j *batchv1.Job) { j.Spec.Completions, j.Spec.Parallelism = ptr.To(int32(4)), ptr.To(int32(4)) }), grown))
	expect.Errors(t, ValidateJobUpdate(change(grown, func(j *batchv1.Job) { j.Spec.Completions = ptr.To(int32(4)) }), grown), "Invalid spec.completions")

	placed := func(j *batchv1.Job) {
		s := &j.Spec.Template.Spec
		s.NodeSelector = map[string]string{"a": "b"}
		s.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}}
		s.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
		j.Spec.Template.Annotations = map[string]string{"a": "b"}
	}
	suspended := job(func(j *batchv1.Job) { j.Spec.Suspend = ptr.To(true) })
	started := job(func(j *batchv1.Job) {
		j.Spec.Suspend, j.Status.StartTime, j.Status.Active = ptr.To(true), &metav1.Time{Time: time.Unix(1, 0)}, 1
	})
	stopped := change(started, func(j *batchv1.Job) {
		j.Status.Active, j.Status.Conditions = 0, []batchv1.JobCondition{{Type: batchv1.JobSuspended, Status: corev1.ConditionTrue}}
	})
	expect.Errors(t, ValidateJobUpdate(change(suspended, placed), suspended))
	expect.Errors(t, ValidateJobUpdate(change(stopped, placed), stopped))
	expect.Errors(t, ValidateJobUpdate(change(started, placed), started), "Invalid spec.template")
	expect.Errors(t, ValidateJobUpdate(change(old, placed), old), "Invalid spec.template")
	expect.Errors(t, ValidateJobUpdate(change(suspended, func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Image = "i:2" }), suspended), "Invalid spec.template")
	moved := change(suspended, placed)
	expect.Errors(t, ValidateJobUpdate(change(moved, func(j *batchv1.Job) { j.Spec.Template.Spec.Affinity = nil }), moved))
}

func TestJobStatusUpdate(t *testing.T) {
	start, end := metav1.Unix(100, 0), metav1.Unix(200, 0)
	conditions := func(kinds ...batchv1.JobConditionType) (out []batchv1.JobCondition) {
		for _, k := range kinds {
			out = append(out, batchv1.JobCondition{Type: k, Status: corev1.ConditionTrue})
		}
		return out
	}
	done := batchv1.JobStatus{StartTime: &start, CompletionTime: &end, Succeeded: 1, Conditions: conditions(batchv1.JobSuccessCriteriaMet, batchv1.JobComplete)}
	for name, tc := range map[string]struct {
		now, old batchv1.JobStatus
		want     []string
	}{
		"sound":   {done, batchv1.JobStatus{StartTime: &start, Active: 1}, nil},
		"same":    {batchv1.JobStatus{Conditions: conditions(batchv1.JobComplete)}, batchv1.JobStatus{Conditions: conditions(batchv1.JobComplete)}, nil},
		"numbers": {batchv1.JobStatus{Active: -1, Succeeded: -1, Failed: -1, Ready: ptr.To(int32(2))}, batchv1.JobStatus{}, []string{"Invalid status.active", "Invalid status.succeeded", "Invalid status.succeeded", "Invalid status.failed", "Invalid status.failed", "Invalid status.ready"}},
		"uncounted": {batchv1.JobStatus{UncountedTerminatedPods: &batchv1.UncountedTerminatedPods{Succeeded: []types.UID{"a", ""}, Failed: []types.UID{"a"}}}, batchv1.JobStatus{},
			[]string{"Invalid status.uncountedTerminatedPods.succeeded[1]", "Duplicate status.uncountedTerminatedPods.failed[0]"}},
		"two ends": {batchv1.JobStatus{StartTime: &start, CompletionTime: &end, Conditions: conditions(batchv1.JobComplete, batchv1.JobFailed)}, batchv1.JobStatus{},
			[]string{"Invalid status.conditions", "Invalid status.conditions", "Invalid status.conditions"}},
		"complete and running": {batchv1.JobStatus{StartTime: &start, Active: 1, Terminating: ptr.To(int32(1)), Conditions: done.Conditions}, batchv1.JobStatus{},
			[]string{"Invalid status.active", "Invalid status.terminating", "Required status.completionTime"}},
		"ended before it began": {batchv1.JobStatus{StartTime: &end, CompletionTime: &start, Conditions: done.Conditions}, batchv1.JobStatus{}, []string{"Invalid status.completionTime"}},
		"an end taken back":     {batchv1.JobStatus{StartTime: &start, Succeeded: 1}, done, []string{"Invalid status.completionTime", "Invalid status.conditions", "Invalid status.conditions"}},
		"start moved":           {batchv1.JobStatus{StartTime: &end}, batchv1.JobStatus{StartTime: &start}, []string{"Invalid status.startTime"}},
		"indexes":               {batchv1.JobStatus{CompletedIndexes: "0", FailedIndexes: ptr.To("1")}, batchv1.JobStatus{}, []string{"Invalid status.completedIndexes", "Invalid status.failedIndexes"}},
	} {
		t.Run(name, func(t *testing.T) {
			now, old := job(), job()
			now.Status, old.Status = tc.now, tc.old
			expect.Errors(t, ValidateJobStatusUpdate(now, old), tc.want...)
		})
	}
}

func TestCronJob(t *testing.T) {
	cronJob := func(change func(*batchv1.CronJob)) *batchv1.CronJob {
		c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "ns", ResourceVersion: "1"}, Spec: batchv1.CronJobSpec{
			Schedule: "*/5 * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: podTemplate()}},
		}}
		defaultCronJob(c)
		change(c)
		return c
	}
	schedule := func(text string) *batchv1.CronJob {
		return cronJob(func(c *batchv1.CronJob) { c.Spec.Schedule = text })
	}
	sound := cronJob(func(*batchv1.CronJob) {})
	zoned := schedule("CRON_TZ=UTC * * * * *")
	for name, tc := range map[string]struct {
		c    *batchv1.CronJob
		want []string
	}{
		"sound":         {sound, nil},
		"macro":         {schedule("@hourly"), nil},
		"no schedule":   {schedule(""), []string{"Required spec.schedule"}},
		"bad schedule":  {schedule("61 * * * *"), []string{"Invalid spec.schedule"}},
		"too short":     {schedule("* * *"), []string{"Invalid spec.schedule"}},
		"zone only":     {schedule("TZ=UTC"), []string{"Invalid spec.schedule"}},
		"zone in it":    {zoned, []string{"Invalid spec.schedule"}},
		"name":          {cronJob(func(c *batchv1.CronJob) { c.Name = strings.Repeat("x", 53) }), []string{"Invalid metadata.name"}},
		"policy":        {cronJob(func(c *batchv1.CronJob) { c.Spec.ConcurrencyPolicy = "x" }), []string{"NotSupported spec.concurrencyPolicy"}},
		"zone":          {cronJob(func(c *batchv1.CronJob) { c.Spec.TimeZone = ptr.To("Europe/Stockholm") }), nil},
		"no zone":       {cronJob(func(c *batchv1.CronJob) { c.Spec.TimeZone = ptr.To("") }), []string{"Invalid spec.timeZone"}},
		"local zone":    {cronJob(func(c *batchv1.CronJob) { c.Spec.TimeZone = ptr.To("local") }), []string{"Invalid spec.timeZone"}},
		"unknown zone":  {cronJob(func(c *batchv1.CronJob) { c.Spec.TimeZone = ptr.To("Moon/Base") }), []string{"Invalid spec.timeZone"}},
		"a way outside": {cronJob(func(c *batchv1.CronJob) { c.Spec.TimeZone = ptr.To("../../etc/passwd") }), []string{"Invalid spec.timeZone"}},
		"job": {cronJob(func(c *batchv1.CronJob) {
			s := &c.Spec.JobTemplate.Spec
			s.Selector, s.ManualSelector, s.Template.Spec.RestartPolicy = &metav1.LabelSelector{}, ptr.To(true), corev1.RestartPolicyAlways
			c.Spec.FailedJobsHistoryLimit, c.Spec.StartingDeadlineSeconds = ptr.To(int32(-1)), ptr.To(int64(-1))
		}), []string{"Invalid spec.jobTemplate.spec.selector", "NotSupported spec.jobTemplate.spec.manualSelector",
			"Required spec.jobTemplate.spec.template.spec.restartPolicy", "Invalid spec.failedJobsHistoryLimit", "Invalid spec.startingDeadlineSeconds"}},
	} {
		t.Run(name, func(t *testing.T) { expect.Errors(t, ValidateCronJob(tc.c), tc.want...) })
	}
	expect.Errors(t, ValidateCronJobUpdate(zoned, zoned))
	expect.Errors(t, ValidateCronJobUpdate(zoned, sound), "Invalid spec.schedule")
	expect.Errors(t, ValidateCronJobStatusUpdate(sound, sound))
}

func TestCountIndexes(t *testing.T) {
	for text, want := range map[string]int32{"": 0, "0": 1, "0-2": 3, "1,3-5,7": 5, "0-9": 10} {
		if got, err := CountIndexes(text, 10); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{",", "a", "1-", "-1", "3-1", "2,1", "1,1", "0-3,3", "10", "0-10", "99999999999", "1-2-3", " 1"} {
		if n, err := CountIndexes(text, 10); err == nil {
			t.Errorf("%q was taken as %d indexes", text, n)
		}
	}
}

func FuzzCountIndexes(f *testing.F) {
	f.Add("0-2,5", int32(10))
	f.Fuzz(func(t *testing.T, text string, completions int32) {
		if n, err := CountIndexes(text, completions); err == nil && (n < 0 || (n > 0 && n > completions)) {
			t.Errorf("%q names %d of %d indexes", text, n, completions)
		}
	})
}

func FuzzSchedule(f *testing.F) {
	f.Add("TZ=")
	f.Add("CRON_TZ=UTC @every 1s")
	f.Fuzz(func(t *testing.T, text string) { validateSchedule(text, false, nil, specPath) })
}
