"""Extra terms of a loss: functions of the batch and of the decoded showers in MeV."""
