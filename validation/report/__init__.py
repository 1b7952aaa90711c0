"""Views of a judgement's rows: verdict, leaderboard, tables, pages."""
